#include "exact.h"

#include <cstring>

#include "lanes.h"

#ifdef __AVX512BW__
#include <immintrin.h>
#endif

namespace {

using lanes::I;
using lanes::W;

// A product has 12 bits and a sum of eight of them 15, so 16-bit lanes do where the CPU can shift them.
#ifdef __AVX512BW__
using Lane = int16_t;
#else
using Lane = int32_t;
#endif
using V = Lane __attribute__((vector_size(lanes::kBytes)));
constexpr int kWidth = lanes::kBytes / sizeof(Lane);  // columns of a V
constexpr int kVectors = kPanel / kWidth;

constexpr Lane kAbsent = -8192;  // exponent of a zero operand: a product with one lies below every other

// Four times the product is rounded to a multiple of 2^(gap+2), half away from zero: a negative product is first lowered
// by one, so that rounding halves up does it. `weight` holds the gap in the form `aligned` wants.
#ifdef __AVX512BW__
inline V weight(V gap) { return (V)_mm512_srlv_epi16(_mm512_set1_epi16(1 << 13), (__m512i)gap); }
inline V aligned(V product, V weight) {
    return (V)_mm512_mulhrs_epi16((__m512i)(product + (product >> 15)), (__m512i)weight);
}
#else
inline V weight(V gap) { return gap < 31 ? gap : V{} + 31; }
inline V aligned(V product, V weight) { return (((product + (product >> 31)) >> weight) + 2) >> 2; }
#endif

inline V larger(V a, V b) { return a > b ? a : b; }

// A K tile of a panel taken apart. Slices are signed and scaled by 4.
struct Tile {
    alignas(64) Lane exponent[kTile][kPanel], slice[2][kTile][kPanel];
};

void take_apart_a(uint32_t word, Lane& exponent, Lane& high, Lane& low) {
    const int biased = word >> 23 & 255, significand = biased ? (word >> 13 & 0x3FF) | 0x400 : 0;
    const int sign = (int32_t)word >> 31;
    exponent = biased ? biased : kAbsent;
    high = ((significand >> 6) * 4 ^ sign) - sign;
    low = ((significand >> 1 & 31) * 4 ^ sign) - sign;
}

void load_tile(const uint32_t* panel, bool wide, long k, Tile& tile) {
    for (int i = 0; i < kTile; i += 2)
        for (int n = 0; n < kPanel; ++n) {
            uint32_t even, odd;
            if (wide) {
                even = panel[(k + i) * kPanel + n], odd = panel[(k + i + 1) * kPanel + n];
            } else {
                const uint32_t pair = panel[(k + i) / 2 * kPanel + n];
                even = pair << 16, odd = pair & 0xFFFF0000u;
            }
            take_apart_a(even, tile.exponent[i][n], tile.slice[0][i][n], tile.slice[1][i][n]);
            take_apart_a(odd, tile.exponent[i + 1][n], tile.slice[0][i + 1][n], tile.slice[1][i + 1][n]);
        }
}

inline V load(const Lane* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

// The sums of a K tile before they reach Dest: [phase][group], groups in K order, and each group's largest exponent sum.
struct Sums {
    alignas(64) Lane total[4][4][kPanel], largest[4][kPanel];
};

template <int Phases>
void sum_groups(const Tile& tile, const ExactRows& in0, long offset, Sums& sums) {
    for (int v = 0; v < kVectors; ++v)
        for (int group = 0; group < kTile / kGroup; ++group) {
            V exponent[kGroup], largest = V{} + (Lane)(2 * kAbsent);
            for (int i = 0; i < kGroup; ++i) {
                const int k = group * kGroup + i;
                exponent[i] = load(&tile.exponent[k][v * kWidth]) + (Lane)in0.exponent[offset + k];
                largest = larger(largest, exponent[i]);
            }
            std::memcpy(&sums.largest[group][v * kWidth], &largest, sizeof largest);
            V total[Phases] = {};
            for (int i = 0; i < kGroup; ++i) {
                const int k = group * kGroup + i;
                const V shift = weight(largest - exponent[i]);
                for (int phase = 0; phase < Phases; ++phase)
                    total[phase] += aligned(
                        load(&tile.slice[phase & 1][k][v * kWidth]) * (Lane)in0.slice[phase >> 1][offset + k], shift);
            }
            for (int phase = 0; phase < Phases; ++phase)
                std::memcpy(&sums.total[phase][group][v * kWidth], &total[phase], sizeof(V));
        }
}

// x / 2^shift, halves up.
inline I half_up(I x, I shift) { return ((x << 1 >> lanes::smaller(shift, lanes::all_int(31))) + 1) >> 1; }

inline I widened(const Lane* p) {
    using Narrow = Lane __attribute__((vector_size(lanes::kLanes * sizeof(Lane))));
    Narrow v;
    std::memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, I);
}

// How many bits of x > 0 are in use. Without the bit below its highest, x cannot round up to the next power of two.
inline I length(I x) { return lanes::exponent(lanes::to_float(x & ~(x >> 1))) - 126; }

// A group's sum in units of the common exponent, 2^-23 or 2^-10: rounded to the former, and then to the latter.
template <bool Fp32>
inline I aligned_sum(I total, I gap) {
    const I fine = half_up(total << 13, gap);
    return Fp32 ? fine : half_up(fine, lanes::all_int(13));
}

// One MVMUL's two groups added to sixteen Dest values.
template <bool Fp32>
inline void add_to_dest(float* dest, const Lane* total0, const Lane* total1, const Lane* largest0, const Lane* largest1,
                        int offset, I& struck) {
    constexpr int unit = Fp32 ? 23 : 10, keep = Fp32 ? 24 : 8;
    const W d = lanes::load(dest);
    const I e = lanes::exponent(d);
    I e0 = widened(largest0) - offset, e1 = widened(largest1) - offset;
    I t0 = widened(total0), t1 = widened(total1);
    t0 = e0 > 0 ? t0 : I{}, e0 = e0 > 0 ? e0 : I{};
    t1 = e1 > 0 ? t1 : I{}, e1 = e1 > 0 ? e1 : I{};
    const I common = lanes::larger(e, lanes::larger(e0, e1));
    // Everything in units of 2^-unit of the common exponent.
    I sum = half_up((I)lanes::significand(d) >> (23 - unit), common - e);
    sum = lanes::with_sign(d, sum) + aligned_sum<Fp32>(t0, common - e0) + aligned_sum<Fp32>(t1, common - e1);
    if (Fp32) {
        const I erratum = sum == -1;
        struck -= erratum;
        sum = lanes::pick(erratum, lanes::all_int(-(1 << 27)), sum);
    }
    const I magnitude = sum < 0 ? -sum : sum;
    const I cut = lanes::larger(length(magnitude) - keep, I{});
    const I rounded = half_up(magnitude, cut) << cut;  // at most `keep` bits in use: exact as a float
    const W scaled = lanes::to_float(rounded) + (W)((common - 127 - unit) << 23);
    const I biased = lanes::exponent(lanes::to_float(rounded)) + common - 127 - unit;
    W result = lanes::pick(biased >= 255, lanes::all(lanes::kInf), scaled);
    result |= (W)sum & lanes::kSign;
    lanes::store(dest, lanes::pick((I)((rounded == 0) | (biased <= 0)), W{}, result));
}

template <bool Fp32>
void add_tile(float* dest, const Sums& sums, int phases, I& struck) {
    for (int n = 0; n < kPanel; n += lanes::kLanes)
        for (int phase = 0; phase < phases; ++phase)
            for (int group = 0; group < kTile / kGroup; group += 2)
                add_to_dest<Fp32>(dest + n, &sums.total[phase][group][n], &sums.total[phase][group + 1][n],
                                  &sums.largest[group][n], &sums.largest[group + 1][n],
                                  127 + (phase & 1 ? 5 : 0) + (phase & 2 ? 7 : 0), struck);
}

}  // namespace

void exact_take_apart_b(const uint32_t* words, long n, int16_t* exponent, int16_t* high, int16_t* low) {
    for (long i = 0; i < n; ++i) {
        const int biased = words[i] >> 23 & 255, significand = biased ? (words[i] >> 13 & 0x3FF) | 0x400 : 0;
        const int sign = (int32_t)words[i] >> 31;
        exponent[i] = biased ? biased : kAbsent;
        high[i] = ((significand >> 4) ^ sign) - sign;
        low[i] = ((significand & 15) << 3 ^ sign) - sign;
    }
}

long exact_accumulate(float* dest, long rows, const ExactRows& in0, const uint32_t* panel, bool wide, long first, long last,
                      int phases, bool fp32_dest) {
    I struck{};
    Tile tile;
    Sums sums;
    for (long k = first; k < last; k += kTile) {
        load_tile(panel, wide, k, tile);
        for (long row = 0; row < rows; ++row) {
            const long offset = row * in0.stride + k;
            switch (phases) {
                case 1: sum_groups<1>(tile, in0, offset, sums); break;
                case 2: sum_groups<2>(tile, in0, offset, sums); break;
                case 3: sum_groups<3>(tile, in0, offset, sums); break;
                default: sum_groups<4>(tile, in0, offset, sums);
            }
            if (fp32_dest) add_tile<true>(dest + row * kPanel, sums, phases, struck);
            else add_tile<false>(dest + row * kPanel, sums, phases, struck);
        }
    }
    long count = 0;
    for (int i = 0; i < lanes::kLanes; ++i) count += struck[i];
    return count;
}
