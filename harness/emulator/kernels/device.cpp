// Products of slices are exact in float32, so whether they are fused with a sum does not matter: let them be.
#if defined(__clang__)
#pragma clang fp contract(fast)
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=fast")
#endif

#include "device.h"

#include <cstring>

#include "lanes.h"

namespace {

using lanes::F;
using lanes::I;
using lanes::W;
using lanes::kLanes;
using S = int16_t __attribute__((vector_size(lanes::kBytes)));  // two vectors' columns
using D = double __attribute__((vector_size(lanes::kBytes)));
using L = int64_t __attribute__((vector_size(lanes::kBytes)));

constexpr int kVectors = kPanel / kLanes;

// Rows of Dest kept in registers.
#ifdef __AVX512F__
constexpr int kBlock = 4;
#else
constexpr int kBlock = 1;
#endif

template <class T, class P>
inline T load(const P* p) {
    T t;
    std::memcpy(&t, p, sizeof t);
    return t;
}

inline S larger(S a, S b) { return a > b ? a : b; }
inline S smaller(S a, S b) { return a < b ? a : b; }
inline W larger(W a, W b) { return a > b ? a : b; }
inline W smaller(W a, W b) { return a < b ? a : b; }
inline F larger(F a, F b) { return a > b ? a : b; }

// A float whose last bit is worth 2^-10 of an exponent: what is added to it is rounded to that grid, half to even.
constexpr int kMagic = 13 << 23 | 1 << 22;
// Exponents for which it is far from the largest float, and three eighths of its last bit from the smallest.
constexpr int kLeast = 20 << 23, kMost = 240 << 23;
inline F magic_of(F dest) {
    return (F)(lanes::smaller(lanes::larger((I)dest & 0x7F800000, lanes::all_int(kLeast)), lanes::all_int(kMost)) + kMagic);
}
// Three eighths of a group's grid: added to a sum on that grid, it makes halves of any coarser grid go up.
constexpr float kHalvesUp = 1.0f / (1 << 25);

inline F rounded_to_bf16(F x) { return (F)(((W)x + 0x8000u) & 0xFFFF0000u); }

// By how much the exponents of a phase's products lie below those of the first.
constexpr int kLower[] = {0, 5, 7, 12};

// Enlarges a product, or a Dest of 16 bits, by so little that none but one at a tie changes its rounding.
constexpr float kPastTheTie = 1 + 1.0f / 8192;

// The same of doubles for a 32-bit Dest, whose last bit is worth 2^-23 of an exponent. The nudge is less than half of the
// grid of any group that still matters: one of an exponent at most 29 below the common one.
constexpr int64_t kMagic64 = 29LL << 52 | 1LL << 51, kExponent64 = 0x7FFLL << 52;
constexpr double kHalvesUp64 = 1.0 / (1LL << 37) / (1LL << 37), kPastTheTie64 = 1 + 1.0 / (1 << 28);

inline D magic_of(D dest) { return (D)(((L)dest & kExponent64) + kMagic64); }
inline D larger(D a, D b) { return a > b ? a : b; }

inline D widened(const float* p) {
    using Half = float __attribute__((vector_size(lanes::kBytes / 2)));
    return __builtin_convertvector(load<Half>(p), D);
}

inline bool any(L mask) {
#ifdef __AVX512DQ__
    return _mm512_movepi64_mask((__m512i)mask) != 0;
#else
    return lanes::any((I)mask);
#endif
}

// Columns of row k of a panel, as float32 bits.
inline W row_of(const uint32_t* panel, bool wide, long k, long column) {
    if (wide) return load<W>(panel + k * kPanel + column);
    const W pairs = load<W>(panel + k / 2 * kPanel + column);
    return k % 2 ? pairs & 0xFFFF0000u : pairs << 16;
}

inline W exponent_or_none(W bits) {
    return (W)lanes::pick(lanes::exponent(bits) == 0, lanes::all_int(kNoExponent), lanes::exponent(bits));
}

template <int Rows>
using Dest = F[Rows][kVectors];

// `magic` of two vectors of columns, upper halves of the floats: the first vector's in the even lanes.
template <int Rows>
using Grid = S[Rows][kVectors / 2];

inline F magic(const S (&grid)[kVectors / 2], int v) {
    const W both = (W)grid[v / 2];
    return (F)(v % 2 ? both & 0xFFFF0000u : both << 16);
}

// The grid of a phase whose exponents are lower.
template <int Rows>
inline void lower_grid(const Grid<Rows>& grid, int lower, Grid<Rows>& lowered) {
    for (int r = 0; r < Rows; ++r)
        for (int s = 0; s < kVectors / 2; ++s) lowered[r][s] = grid[r][s] - (int16_t)(lower << 7);
}

// The grid of one group of eight, by the largest exponent of its products.
template <int Rows>
inline void find_grid(const Phases& p, long k, long row, long stride, Grid<Rows>& grid) {
    for (auto& largest : grid)
        for (S& x : largest) x = S{} + (int16_t)1;
#pragma GCC unroll 2  // more makes it slower
    for (int i = 0; i < kGroup; ++i)
        for (int v = 0; v < kVectors; v += 2) {
            const S a = load<S>(p.exponent_a + ((k + i) * kPanel + v * kLanes) / 2);
            for (int r = 0; r < Rows; ++r) {
                const S b = (S)(W{} + p.exponent_b[(row + r) * stride + k + i]);
                grid[r][v / 2] = larger(grid[r][v / 2], a + b);
            }
        }
    for (auto& largest : grid)
        for (S& x : largest) x = (smaller(x, S{} + (int16_t)(kMost >> 23)) << 7) + (int16_t)(kMagic >> 16);
}

// A phase's sum of a group, each product aligned to the group's grid: adding up from its `magic` does it.
template <int Rows>
inline void aligned_group(const float* a, const float* b, long stride, const Grid<Rows>& grid, Dest<Rows>& sum) {
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < kVectors; ++v) sum[r][v] = magic(grid[r], v);
#pragma GCC unroll 2  // more makes it slower
    for (int i = 0; i < kGroup; ++i)
        for (int v = 0; v < kVectors; ++v) {
            const F values = load<F>(a + i * kPanel + v * kLanes);
            for (int r = 0; r < Rows; ++r) sum[r][v] += values * b[r * stride + i];
        }
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < kVectors; ++v) sum[r][v] -= magic(grid[r], v);
}

// The two groups of 16 k in one phase.
template <int Rows>
struct Groups {
    Dest<Rows> sum[2];
    Grid<Rows> grid[2];
};

// Calls add(groups) for each MVMUL in order.
template <int Rows, class Add>
inline void for_each_mvmul(const Phases& p, long row, long stride, long first, long last, const Add& add) {
    for (long tile = first; tile < last; tile += kTile) {
        Grid<Rows> grid[2][2];  // of each half's groups
        for (int group = 0; group < kTile / kGroup; ++group)
            find_grid<Rows>(p, tile + group * kGroup, row, stride, grid[group / 2][group % 2]);
        for (int phase = 0; phase < p.count; ++phase)
            for (int half = 0; half < 2; ++half) {
                const float* a = p.a[phase & 1] + (tile + half * kDepth) * kPanel;
                const float* b = p.b[phase >> 1] + row * stride + tile + half * kDepth;
                Groups<Rows> groups;
                lower_grid<Rows>(grid[half][0], kLower[phase], groups.grid[0]);
                lower_grid<Rows>(grid[half][1], kLower[phase], groups.grid[1]);
                aligned_group<Rows>(a, b, stride, groups.grid[0], groups.sum[0]);
                aligned_group<Rows>(a + kGroup * kPanel, b + kGroup, stride, groups.grid[1], groups.sum[1]);
                add(groups);
            }
    }
}

// An MVMUL onto a 16-bit Dest: both groups and Dest are rounded to the grid of the largest exponent of the three before
// they meet, halves of a group up and those of Dest away from zero.
template <int Rows>
inline void add_to16(Dest<Rows>& dest, const Groups<Rows>& groups) {
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < kVectors; ++v) {
            const F magic0 = magic(groups.grid[0][r], v), magic1 = magic(groups.grid[1][r], v);
            const F common = larger(larger(magic0, magic1), magic_of(dest[r][v]));
            F total = common + dest[r][v] * kPastTheTie;
            total += groups.sum[0][r][v] + magic0 * kHalvesUp;
            total += groups.sum[1][r][v] + magic1 * kHalvesUp;
            dest[r][v] = rounded_to_bf16(total - common);
        }
}

// An MVMUL onto a 32-bit Dest held as doubles. Where the sum is -1 of its grid the erratum makes it -2^27.
template <int Rows>
inline void add_to32(double* dest, const Groups<Rows>& groups, long& struck) {
    alignas(64) float common[kPanel], sum0[kPanel], sum1[kPanel];
    for (int r = 0; r < Rows; ++r) {
        for (int v = 0; v < kVectors; ++v) {
            const F largest = larger(magic(groups.grid[0][r], v), magic(groups.grid[1][r], v));
            lanes::store(common + v * kLanes, (W)(largest * (float)(1 << 16)));
            lanes::store(sum0 + v * kLanes, (W)groups.sum[0][r][v]);
            lanes::store(sum1 + v * kLanes, (W)groups.sum[1][r][v]);
        }
        for (int n = 0; n < kPanel; n += kLanes / 2) {
            double* at = dest + r * kPanel + n;
            const D d = load<D>(at), magic = larger(widened(common + n), magic_of(d)), up = magic * kHalvesUp64;
            D total = magic + d * kPastTheTie64;
            total += widened(sum0 + n) + up;
            total += widened(sum1 + n) + up;
            L rounded = ((L)(total - magic) + (1LL << 28)) & -(1LL << 29);
            const L hit = (L)total == (L)magic - 1;
            if (any(hit)) {
                rounded = hit ? ((L)magic & kExponent64) - (25LL << 52) | INT64_MIN : rounded;
                for (int i = 0; i < kLanes / 2; ++i) struck -= hit[i];
            }
            std::memcpy(at, &rounded, sizeof rounded);
        }
    }
}

template <int Rows>
inline void load_dest(Dest<Rows>& d, const float* dest) {
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < kVectors; ++v) d[r][v] = load<F>(dest + r * kPanel + v * kLanes);
}

template <int Rows>
inline void store_dest(const Dest<Rows>& d, float* dest) {
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < kVectors; ++v) lanes::store(dest + r * kPanel + v * kLanes, (W)d[r][v]);
}

template <int Rows>
long rows16(float* dest, const Phases& p, long row, long stride, long first, long last) {
    Dest<Rows> d;
    load_dest<Rows>(d, dest);
    for_each_mvmul<Rows>(p, row, stride, first, last, [&](const Groups<Rows>& groups) { add_to16<Rows>(d, groups); });
    store_dest<Rows>(d, dest);
    return 0;
}

// A 32-bit Dest in float32: without its erratum, the last bit's rounding, and the later phases' alignment in their groups.
template <int Rows>
long rows32(float* dest, const Phases& p, long row, long stride, long first, long last) {
    Dest<Rows> d;
    load_dest<Rows>(d, dest);
    for (long k = first; k < last; k += kGroup) {
        Grid<Rows> grid;
        find_grid<Rows>(p, k, row, stride, grid);
        for (int phase = 0; phase < std::min(p.count, 2); ++phase) {
            Dest<Rows> sum;
            Grid<Rows> lowered;
            lower_grid<Rows>(grid, kLower[phase], lowered);
            aligned_group<Rows>(p.a[phase] + k * kPanel, p.b[0] + row * stride + k, stride, lowered, sum);
            for (int r = 0; r < Rows; ++r)
                for (int v = 0; v < kVectors; ++v) d[r][v] += sum[r][v];
        }
    }
    if (p.count > 2)
        for (long k = first; k < last; ++k)
            for (int v = 0; v < kVectors; ++v) {
                const F a = (F)(row_of(p.panel, p.wide, k, v * kLanes) & (p.count > 3 ? kSideA.all : kSideA.high));
                for (int r = 0; r < Rows; ++r) d[r][v] += a * p.b[1][(row + r) * stride + k];
            }
    store_dest<Rows>(d, dest);
    return 0;
}

template <int Rows>
long exact_rows32(float* dest, const Phases& p, long row, long stride, long first, long last) {
    alignas(64) double d[Rows * kPanel];
    long struck = 0;
    for (int i = 0; i < Rows * kPanel; ++i) d[i] = dest[i];
    for_each_mvmul<Rows>(p, row, stride, first, last,
                         [&](const Groups<Rows>& groups) { add_to32<Rows>(d, groups, struck); });
    for (int i = 0; i < Rows * kPanel; ++i) dest[i] = (float)d[i];
    return struck;
}

}  // namespace

Range device_take_apart_a(const uint32_t* panel, bool wide, long k, float* const (&a)[2], uint32_t* exponent_a) {
    W below_least = lanes::all(255 * Range::kOne), highest{};
    for (long i = 0; i < k; ++i)
        for (long n = 0; n < kPanel; n += 2 * kLanes) {
            W bits[2];
            for (int h = 0; h < 2; ++h) {
                bits[h] = row_of(panel, wide, i, n + h * kLanes);
                const W exponent = bits[h] & lanes::kInf;
                below_least = smaller(below_least, exponent - Range::kOne);
                highest = larger(highest, exponent);
                const F high = (F)(bits[h] & kSideA.high), low = (F)(bits[h] & kSideA.all) - high;
                const long at = i * kPanel + n + h * kLanes;
                lanes::store(a[0] + at, (W)(high * kPastTheTie));
                if (a[1]) lanes::store(a[1] + at, (W)(low * kPastTheTie));
            }
            const W both = (exponent_or_none(bits[0]) & 0xFFFFu) | exponent_or_none(bits[1]) << 16;
            std::memcpy(exponent_a + (i * kPanel + n) / 2, &both, sizeof both);
        }
    Range range;
    for (int i = 0; i < kLanes; ++i) range.add(Range{below_least[i], highest[i]});
    return range;
}

long device_accumulate(float* dest, long rows, const Phases& phases, long stride, long first, long last, bool fp32_dest,
                       bool exact) {
    long row = 0, struck = 0;
    const auto run = [&](auto block, auto single) {
        for (; row + kBlock <= rows; row += kBlock) struck += block(dest + row * kPanel, phases, row, stride, first, last);
        for (; row < rows; ++row) struck += single(dest + row * kPanel, phases, row, stride, first, last);
    };
    if (!fp32_dest) run(rows16<kBlock>, rows16<1>);
    else if (exact) run(exact_rows32<kBlock>, exact_rows32<1>);
    else run(rows32<kBlock>, rows32<1>);
    return struck;
}
