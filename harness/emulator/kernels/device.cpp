// Products of slices are exact in float32, so whether they are fused with a sum does not matter: let them be.
#if defined(__clang__)
#pragma clang fp contract(fast)
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=fast")
#endif

#include "device.h"

#include <cstring>

#include "lanes.h"

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

using lanes::F;
using lanes::I;
using lanes::W;
using lanes::kLanes;
using S = int16_t __attribute__((vector_size(lanes::kBytes)));  // two vectors' columns

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
inline F larger(F a, F b) { return a > b ? a : b; }

// sum + the products of two k.
#ifdef __AVX512BF16__
inline F dot(F sum, W a, uint32_t b) {
    return (F)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)_mm512_set1_epi32((int)b));
}
#else
inline F dot(F sum, W a, uint32_t b) {
    const float even = load<float>(&(const uint32_t&)(b << 16)), odd = load<float>(&(const uint32_t&)(b & 0xFFFF0000u));
    sum += (F)(a << 16) * even;
    return sum + (F)(a & 0xFFFF0000u) * odd;
}
#endif

// A float whose last bit is worth 2^-10 of an exponent: what is added to it is rounded to that grid, half to even.
constexpr int kMagic = 13 << 23 | 1 << 22;
// Exponents for which it and `nudge` are normal numbers.
constexpr int kLeast = 20 << 23, kMost = 240 << 23;
inline F magic_of(F dest) {
    return (F)(lanes::smaller(lanes::larger((I)dest & 0x7F800000, lanes::all_int(kLeast)), lanes::all_int(kMost)) + kMagic);
}
// Added to a group's sum, it makes halves go up.
inline F nudge(F magic) { return (F)((I)magic - (kMagic + kLeast)); }

inline F rounded_to_bf16(F x) { return (F)(((W)x + 0x8000u) & 0xFFFF0000u); }

// By how much the exponents of a phase's products lie below those of the first.
constexpr int kLower[] = {0, 5, 7, 12};

// Enlarges a product by so little that none but one at a tie changes its rounding.
constexpr float kPastTheTie = 1 + 1.0f / 8192;

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

// The grid on which two groups and Dest meet.
inline F common_magic(const S (&grid0)[kVectors / 2], const S (&grid1)[kVectors / 2], int v, F dest) {
    const W both = (W)larger(grid0[v / 2], grid1[v / 2]);
    return larger((F)(v % 2 ? both & 0xFFFF0000u : both << 16), magic_of(dest));
}

// The grid of one group of eight, by the largest exponent of its products.
template <int Rows>
inline void find_grid(const FirstPhases& p, long k, long row, long stride, Grid<Rows>& grid) {
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

// One of the first phases' sums of a group, each product aligned to the group's grid: adding up from its `magic` does it.
template <int Rows>
inline void aligned_group(const FirstPhases& p, int phase, long k, long row, long stride, const Grid<Rows>& grid,
                          Dest<Rows>& sum) {
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < kVectors; ++v) sum[r][v] = magic(grid[r], v);
#pragma GCC unroll 2  // more makes it slower
    for (int i = 0; i < kGroup; ++i)
        for (int v = 0; v < kVectors; ++v) {
            const F a = load<F>(p.a[phase] + (k + i) * kPanel + v * kLanes);
            for (int r = 0; r < Rows; ++r) sum[r][v] += a * p.b[(row + r) * stride + k + i];
        }
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < kVectors; ++v) sum[r][v] -= magic(grid[r], v);
}

// One of the first phases of 16 k onto a 16-bit Dest: both groups and Dest are rounded to the grid of the largest exponent
// of the three before they meet.
template <int Rows>
inline void first_phase(Dest<Rows>& dest, const FirstPhases& p, int phase, long k, long row, long stride,
                        const Grid<Rows> (&grid)[2]) {
    Dest<Rows> sum0, sum1;
    Grid<Rows> grid0, grid1;
    lower_grid<Rows>(grid[0], kLower[phase], grid0);
    lower_grid<Rows>(grid[1], kLower[phase], grid1);
    aligned_group<Rows>(p, phase, k, row, stride, grid0, sum0);
    aligned_group<Rows>(p, phase, k + kGroup, row, stride, grid1, sum1);
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < kVectors; ++v) {
            const F common = common_magic(grid0[r], grid1[r], v, dest[r][v]), up = nudge(common);
            const F total = (common + dest[r][v]) + (sum0[r][v] + up) + (sum1[r][v] + up);
            dest[r][v] = rounded_to_bf16(total - common);
        }
}

// A later phase of 16 k onto a 16-bit Dest: the same, but for the products' alignment.
template <int Rows>
inline void later_phase(Dest<Rows>& dest, const uint32_t* a, const uint32_t* b, long stride, int lower,
                        const Grid<Rows> (&grid)[2]) {
    Dest<Rows> sum0, sum1, common;
    Grid<Rows> grid0, grid1;
    lower_grid<Rows>(grid[0], lower, grid0);
    lower_grid<Rows>(grid[1], lower, grid1);
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < kVectors; ++v) {
            common[r][v] = common_magic(grid0[r], grid1[r], v, dest[r][v]);
            sum0[r][v] = sum1[r][v] = nudge(common[r][v]);
        }
    const auto add = [&](Dest<Rows>& sum, int pair) {
        for (int v = 0; v < kVectors; ++v) {
            const W values = load<W>(a + pair * kPanel + v * kLanes);
            for (int r = 0; r < Rows; ++r) sum[r][v] = dot(sum[r][v], values, b[r * stride + pair]);
        }
    };
    for (int pair = 0; pair < kGroup / 2; ++pair) add(sum0, pair);
    for (int pair = kGroup / 2; pair < kGroup; ++pair) add(sum1, pair);
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < kVectors; ++v) {
            const F sum = (common[r][v] + dest[r][v]) + sum0[r][v] + sum1[r][v];
            dest[r][v] = rounded_to_bf16(sum - common[r][v]);
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
void rows16(float* dest, const FirstPhases& p, const Pass* passes, int count, long row, long stride, long first, long last) {
    Dest<Rows> d;
    load_dest<Rows>(d, dest);
    for (long tile = first; tile < last; tile += kTile) {
        Grid<Rows> grid[2][2];  // of each half's groups
        for (int group = 0; group < kTile / kGroup; ++group)
            find_grid<Rows>(p, tile + group * kGroup, row, stride, grid[group / 2][group % 2]);
        for (int phase = 0; phase < p.count; ++phase)
            for (int half = 0; half < 2; ++half)
                first_phase<Rows>(d, p, phase, tile + half * kDepth, row, stride, grid[half]);
        for (int pass = 0; pass < count; ++pass)
            for (int half = 0; half < 2; ++half) {
                const long pair = (tile + half * kDepth) / 2;
                later_phase<Rows>(d, passes[pass].a + pair * kPanel, passes[pass].b + row * stride / 2 + pair, stride / 2,
                                  kLower[2 + pass], grid[half]);
            }
    }
    store_dest<Rows>(d, dest);
}

template <int Rows>
void rows32(float* dest, const FirstPhases& p, const Pass* passes, int count, long row, long stride, long first, long last) {
    Dest<Rows> d;
    load_dest<Rows>(d, dest);
    for (long k = first; k < last; k += kGroup) {
        Grid<Rows> grid;
        find_grid<Rows>(p, k, row, stride, grid);
        for (int phase = 0; phase < p.count; ++phase) {
            Dest<Rows> sum;
            Grid<Rows> lowered;
            lower_grid<Rows>(grid, kLower[phase], lowered);
            aligned_group<Rows>(p, phase, k, row, stride, lowered, sum);
            for (int r = 0; r < Rows; ++r)
                for (int v = 0; v < kVectors; ++v) d[r][v] += sum[r][v];
        }
    }
    for (int pass = 0; pass < count; ++pass) {
        const uint32_t* b = passes[pass].b + row * stride / 2;
        for (long pair = first / 2; pair < last / 2; ++pair)
            for (int v = 0; v < kVectors; ++v) {
                const W values = load<W>(passes[pass].a + pair * kPanel + v * kLanes);
                for (int r = 0; r < Rows; ++r) d[r][v] = dot(d[r][v], values, b[r * stride / 2 + pair]);
            }
    }
    store_dest<Rows>(d, dest);
}

}  // namespace

void device_take_apart_a(const uint32_t* panel, bool wide, long k, float* const (&a)[2], uint32_t* exponent_a) {
    for (long i = 0; i < k; ++i)
        for (long n = 0; n < kPanel; n += 2 * kLanes) {
            W bits[2];
            for (int h = 0; h < 2; ++h) {
                bits[h] = row_of(panel, wide, i, n + h * kLanes);
                const F high = (F)(bits[h] & kSideA.high), low = (F)(bits[h] & kSideA.all) - high;
                const long at = i * kPanel + n + h * kLanes;
                lanes::store(a[0] + at, (W)(high * kPastTheTie));
                if (a[1]) lanes::store(a[1] + at, (W)(low * kPastTheTie));
            }
            const W both = (exponent_or_none(bits[0]) & 0xFFFFu) | exponent_or_none(bits[1]) << 16;
            std::memcpy(exponent_a + (i * kPanel + n) / 2, &both, sizeof both);
        }
}

void device_accumulate(float* dest, long rows, const FirstPhases& phases, const Pass* passes, int count, long stride,
                       long first, long last, bool fp32_dest) {
    long row = 0;
    const auto run = [&](auto block, auto single) {
        for (; row + kBlock <= rows; row += kBlock)
            block(dest + row * kPanel, phases, passes, count, row, stride, first, last);
        for (; row < rows; ++row) single(dest + row * kPanel, phases, passes, count, row, stride, first, last);
    };
    if (fp32_dest) run(rows32<kBlock>, rows32<1>);
    else run(rows16<kBlock>, rows16<1>);
}
