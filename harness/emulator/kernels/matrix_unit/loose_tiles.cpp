#include "loose_tiles.h"

#include <cstring>
#include <utility>

#include "loose.h"
#include "tiles.h"

namespace {

using namespace groups;

// What the phases of a slice multiply of values whose bits are `words`, as bfloat16 in the upper halves: their bits in `kept`, less
// those in `taken`.
struct Slice {
    uint32_t kept, taken;

    W of(W words) const { return (W)((F)(words & kept) - (F)(words & taken)); }
};

// The slices of in1 and of in0: the higher bits and the rest, or for one sum (loose.h) what the phases read.
inline void choose(Side side, bool all_first, bool high_second, Slice (&slices)[2]) {
    slices[0] = {all_first ? side.all : side.high, 0};
    slices[1] = high_second ? Slice{side.high, 0} : Slice{side.all, side.high};
}

// The range of exponents, lane by lane.
struct Ranges {
    W below_least = lanes::all(255 * Range::kOne), highest{};

    void add(W words) {
        const W exponent = words & lanes::kInf, below = exponent - Range::kOne;
        below_least = below < below_least ? below : below_least;
        highest = larger(highest, exponent);
    }
    Range all() const {
        Range range;
        for (int i = 0; i < kLanes; ++i) range.add(Range{below_least[i], highest[i]});
        return range;
    }
};

}  // namespace

Range tiles_take_apart_a(const uint32_t* panel, long k, Dest dest, int phases, std::vector<uint32_t> (&a)[2]) {
    const bool one_sum = dest == Dest::kLoose32;
    const long words = k / 2 * kPanel;
    Slice slices[2];
    choose(kSideA, one_sum && phases > 1, one_sum, slices);
    for (int s = 0; s < slices_a(dest, phases); ++s) a[s].resize(words);
    Ranges ranges;
    for (long i = 0; i < words; i += kLanes) {
        const W pairs = load<W>(panel + i), even = pairs << 16, odd = pairs & 0xFFFF0000u;
        ranges.add(even);
        ranges.add(odd);
        for (int s = 0; s < slices_a(dest, phases); ++s) {
            const W both = slices[s].of(even) >> 16 | slices[s].of(odd);
            std::memcpy(a[s].data() + i, &both, sizeof both);
        }
    }
    return ranges.all();
}

Range tiles_take_apart_b(const uint16_t* row, long k, Dest dest, int phases, uint16_t* const (&b)[2]) {
    Slice slices[2];
    choose(kSideB, dest == Dest::kLoose32 && phases > 3, false, slices);
    Ranges ranges;
    for (long i = 0; i < k; i += kLanes) {
        W words = lanes::some(row + i, k - i);
        words = (words & lanes::kInf) != 0 ? words : W{};  // the matrix unit takes a denormal for zero
        ranges.add(words);
        for (int s = 0; s < slices_b(dest, phases); ++s) lanes::put(b[s] + i, slices[s].of(words), k - i);
    }
    return ranges.all();
}

#ifdef __AMX_BF16__

namespace {

constexpr int kSide = tiles::kTileRows;

// Of a K tile, sixteen rows and columns: the sums [phase][group][row][column].
struct TileSums {
    alignas(64) float total[4][kGroups][kSide][kSide];
};

// Sixteen rows and columns of Dest at a K tile.
struct Unit {
    float* dest;
    const uint16_t* b[2];
    const uint32_t* a[2];
    long stride;  // of b, in bytes
    TileSums* sums;
};

// One group in one phase, the Step-th of a K tile.
template <int Phases, int Step>
inline void sum_group(const Unit& u) {
    constexpr int phase = Step % Phases, group = Step / Phases;
    constexpr long kPairs = kPanel * sizeof(uint32_t), kOut = kSide * sizeof(float);
    const uint16_t* b = u.b[phase / 2] + group * kGroup;
    const uint32_t* a = u.a[phase % 2] + group * kGroup / 2 * kPanel;
    float* to = u.sums->total[phase][group][0];
    if constexpr (phase == 0) _tile_loadd(4, b, u.stride);
    if constexpr (phase == 2) _tile_loadd(5, b, u.stride);
    if constexpr (phase < 2 && Step % 2 == 0) {
        _tile_zero(0);
        _tile_loadd(6, a, kPairs);
        _tile_dpbf16ps(0, 4, 6);
        _tile_stored(0, to, kOut);
    } else if constexpr (phase < 2) {
        _tile_zero(1);
        _tile_loadd(7, a, kPairs);
        _tile_dpbf16ps(1, 4, 7);
        _tile_stored(1, to, kOut);
    } else if constexpr (Step % 2 == 0) {
        _tile_zero(2);
        _tile_loadd(6, a, kPairs);
        _tile_dpbf16ps(2, 5, 6);
        _tile_stored(2, to, kOut);
    } else {
        _tile_zero(3);
        _tile_loadd(7, a, kPairs);
        _tile_dpbf16ps(3, 5, 7);
        _tile_stored(3, to, kOut);
    }
}

constexpr int kHeld = kSide / 2;  // rows whose steps run side by side

// Rounds half a unit's rows step by step; between any two of its steps the tiles are given one of the next unit.
template <int Phases, int First, int Step = 0>
inline void round_steps(const Unit& u, const Unit* next, const F (&up)[kHeld], F (&dest)[kHeld]) {
    if constexpr (Step < 2 * Phases) {
        if (next) sum_group<Phases, First * 2 * Phases + Step>(*next);
        const auto& total = u.sums->total[Step / 2];
        for (int r = 0; r < kHeld; ++r) {
            const F left = load<F>(total[Step % 2 * 2][First * kHeld + r]), right = load<F>(total[Step % 2 * 2 + 1][First * kHeld + r]);
            dest[r] = mvmul_loosely(dest[r], left + up[r], right + up[r]);
        }
        round_steps<Phases, First, Step + 1>(u, next, up, dest);
    }
}

template <int Phases, int First>
inline void round_half(const Unit& u, const Unit* next) {
    F dest[kHeld], up[kHeld];
    for (int r = 0; r < kHeld; ++r) {
        dest[r] = load<F>(u.dest + (First * kHeld + r) * kPanel);
        up[r] = nudge(dest[r]);
    }
    round_steps<Phases, First>(u, next, up, dest);
    for (int r = 0; r < kHeld; ++r) lanes::store(u.dest + (First * kHeld + r) * kPanel, (W)dest[r]);
}

template <int Phases, int... Step>
inline void sum_all(const Unit& u, std::integer_sequence<int, Step...>) {
    (sum_group<Phases, Step>(u), ...);
}

// The tiles multiply a unit while the sums of the one before are rounded.
template <int Phases>
void accumulate_16(float* values, long rows, const TileOperands& p, long first, long last) {
    static thread_local TileSums sums[2];
    const long units = rows / kSide * 2, all = (last - first) / kTile * units;
    const auto unit = [&](long n) {
        const long row = n % units / 2 * kSide, column = n % 2 * kSide, k = first + n / units * kTile;
        const auto b = [&](int slice) { return p.b[slice] + row * p.k + k; };
        const auto a = [&](int slice) { return p.a[slice] + k / 2 * kPanel + column; };
        return Unit{values + row * kPanel + column,
                    {b(0), Phases > 2 ? b(1) : nullptr},
                    {a(0), Phases > 1 ? a(1) : nullptr},
                    (long)(p.k * sizeof(uint16_t)),
                    &sums[n % 2]};
    };
    const tiles::Tiles shapes(kGroup);
    Unit now = unit(0);
    sum_all<Phases>(now, std::make_integer_sequence<int, 4 * Phases>());
    for (long n = 0; n < all; ++n) {
        const Unit next = unit(n + 1);
        round_half<Phases, 0>(now, n + 1 < all ? &next : nullptr);
        round_half<Phases, 1>(now, n + 1 < all ? &next : nullptr);
        now = next;
    }
}

void accumulate_32(float* values, long rows, const TileOperands& p, long first, long last, int slices) {
    const tiles::Tiles shapes(kTile);
    const long stride = p.k * sizeof(uint16_t), pairs = kPanel * sizeof(uint32_t), out = kPanel * sizeof(float);
    for (long row = 0; row < rows; row += kSide) {
        float* to = values + row * kPanel;
        _tile_loadd(0, to, out);
        _tile_loadd(1, to + kSide, out);
        for (int s = 0; s < slices; ++s)
            for (long k = first; k < last; k += kTile) {
                const uint32_t* a = p.a[s] + k / 2 * kPanel;
                _tile_loadd(4, p.b[s] + row * p.k + k, stride);
                _tile_loadd(6, a, pairs);
                _tile_dpbf16ps(0, 4, 6);
                _tile_loadd(7, a + kSide, pairs);
                _tile_dpbf16ps(1, 4, 7);
            }
        _tile_stored(0, to, out);
        _tile_stored(1, to + kSide, out);
    }
}

}  // namespace

bool tiles_multiply(Dest dest) { return (dest == Dest::kLoose16 || dest == Dest::kLoose32) && tiles::allowed(); }

void tiles_accumulate(float* values, long rows, const TileOperands& p, long first, long last, Dest dest, int phases) {
    if (dest == Dest::kLoose32) return accumulate_32(values, rows, p, first, last, slices_b(dest, phases));
    switch (phases) {
        case 1: return accumulate_16<1>(values, rows, p, first, last);
        case 2: return accumulate_16<2>(values, rows, p, first, last);
        case 3: return accumulate_16<3>(values, rows, p, first, last);
        default: return accumulate_16<4>(values, rows, p, first, last);
    }
}

#else

bool tiles_multiply(Dest) { return false; }
void tiles_accumulate(float*, long, const TileOperands&, long, long, Dest, int) {}

#endif
