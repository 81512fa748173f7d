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

template <int Rows>
using Dest = F[Rows][kVectors];

// The first phase's sums of one group of eight, each product aligned to the group's largest exponent: adding up from
// `magic` of that exponent does it.
template <int Rows>
inline void aligned_group(const FirstPhase& p, long k, long row, long stride, Dest<Rows>& sum, Dest<Rows>& magic) {
    S largest[Rows][kVectors / 2];
    for (auto& row_largest : largest)
        for (S& x : row_largest) x = S{} + (int16_t)(2 * kNoExponent);
    for (int i = 0; i < kGroup; ++i)
        for (int v = 0; v < kVectors; v += 2) {
            const S a = load<S>(p.exponent_a + (k + i) * kPanel + v * kLanes);
            for (int r = 0; r < Rows; ++r)
                largest[r][v / 2] = larger(largest[r][v / 2], a + p.exponent_b[(row + r) * stride + k + i]);
        }
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < kVectors; v += 2) {
            const S least = S{} + (int16_t)1, most = S{} + (int16_t)(kMost >> 23);
            const S biased = smaller(larger(largest[r][v / 2] - (int16_t)127, least), most);
            const S upper = (biased << 7) + (int16_t)(kMagic >> 16);
            lanes::H halves[2];
            std::memcpy(halves, &upper, sizeof upper);
            for (int h = 0; h < 2; ++h)
                sum[r][v + h] = magic[r][v + h] = (F)(__builtin_convertvector(halves[h], W) << 16);
        }
    for (int i = 0; i < kGroup; ++i)
        for (int v = 0; v < kVectors; ++v) {
            const F a = load<F>(p.a + (k + i) * kPanel + v * kLanes);
            for (int r = 0; r < Rows; ++r) sum[r][v] += a * p.b[(row + r) * stride + k + i];
        }
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < kVectors; ++v) sum[r][v] -= magic[r][v];
}

// The first phase of 16 k onto a 32-bit Dest.
template <int Rows>
inline void first_phase(Dest<Rows>& dest, const FirstPhase& p, long k, long row, long stride) {
    for (long group = k; group < k + kDepth; group += kGroup) {
        Dest<Rows> sum, magic;
        aligned_group<Rows>(p, group, row, stride, sum, magic);
        for (int r = 0; r < Rows; ++r)
            for (int v = 0; v < kVectors; ++v) dest[r][v] += sum[r][v];
    }
}

// The first phase of 16 k onto a 16-bit Dest: both groups and Dest are rounded to the grid of the largest exponent of the
// three before they meet. `magic` returns that of the groups.
template <int Rows>
inline void first_phase(Dest<Rows>& dest, const FirstPhase& p, long k, long row, long stride, Dest<Rows>& magic) {
    Dest<Rows> sum0, sum1, magic1;
    aligned_group<Rows>(p, k, row, stride, sum0, magic);
    aligned_group<Rows>(p, k + kGroup, row, stride, sum1, magic1);
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < kVectors; ++v) {
            magic[r][v] = larger(magic[r][v], magic1[r][v]);
            const F grid = larger(magic[r][v], magic_of(dest[r][v])), up = nudge(grid);
            dest[r][v] = rounded_to_bf16(((grid + dest[r][v]) + (sum0[r][v] + up) + (sum1[r][v] + up)) - grid);
        }
}

// A later phase of the same 16 k, whose exponents are `lower` by 5, 7 or 12.
template <int Rows>
inline void later_phase(Dest<Rows>& dest, const uint32_t* a, const uint32_t* b, long stride, const Dest<Rows>& magic,
                        int lower) {
    Dest<Rows> sum0, sum1, grid;
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < kVectors; ++v) {
            grid[r][v] = larger((F)((I)magic[r][v] - (lower << 23)), magic_of(dest[r][v]));
            sum0[r][v] = sum1[r][v] = nudge(grid[r][v]);
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
            const F sum = (grid[r][v] + dest[r][v]) + sum0[r][v] + sum1[r][v];
            dest[r][v] = rounded_to_bf16(sum - grid[r][v]);
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
void rows16(float* dest, const FirstPhase& p, const Pass* passes, int count, long row, long stride, long first, long last) {
    Dest<Rows> d;
    load_dest<Rows>(d, dest);
    constexpr int lower[] = {5, 7, 12};
    for (long tile = first; tile < last; tile += kTile) {
        Dest<Rows> magic[2];
        for (int half = 0; half < 2; ++half) first_phase<Rows>(d, p, tile + half * kDepth, row, stride, magic[half]);
        for (int pass = 0; pass < count; ++pass)
            for (int half = 0; half < 2; ++half) {
                const long pair = (tile + half * kDepth) / 2;
                later_phase<Rows>(d, passes[pass].a + pair * kPanel, passes[pass].b + row * stride / 2 + pair, stride / 2,
                                  magic[half], lower[pass]);
            }
    }
    store_dest<Rows>(d, dest);
}

template <int Rows>
void rows32(float* dest, const FirstPhase& p, const Pass* passes, int count, long row, long stride, long first, long last) {
    Dest<Rows> d;
    load_dest<Rows>(d, dest);
    for (long k = first; k < last; k += kDepth) first_phase<Rows>(d, p, k, row, stride);
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

void device_accumulate(float* dest, long rows, const FirstPhase& phase, const Pass* passes, int count, long stride,
                       long first, long last, bool fp32_dest) {
    long row = 0;
    const auto run = [&](auto block, auto single) {
        for (; row + kBlock <= rows; row += kBlock)
            block(dest + row * kPanel, phase, passes, count, row, stride, first, last);
        for (; row < rows; ++row) single(dest + row * kPanel, phase, passes, count, row, stride, first, last);
    };
    if (fp32_dest) run(rows32<kBlock>, rows32<1>);
    else run(rows16<kBlock>, rows16<1>);
}
