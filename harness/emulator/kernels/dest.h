// Dest of a block of rows, and what an MVMUL does to it: both groups of 16 k and Dest are rounded to one grid, that of the
// largest exponent of the three, halves of a group up and those of Dest away from zero; then the sum is rounded to the bits
// that Dest has, half away from zero.
#pragma once

#include "groups.h"

namespace groups {

using D = double __attribute__((vector_size(lanes::kBytes)));
using L = int64_t __attribute__((vector_size(lanes::kBytes)));

inline W larger(W a, W b) { return a > b ? a : b; }

// Dest values held as float32, and what the forms of Dest that hold them so have in common.
struct Floats {
    explicit Floats(const float* from) { std::memcpy(values, from, sizeof values); }

    long store(float* to) const {
        std::memcpy(to, values, sizeof values);
        return 0;
    }

    // Calls update(d, row, column) for each vector of Dest.
    template <class Update>
    void for_each(const Update& update) {
        for (int r = 0; r < kBlock; ++r)
            for (int v = 0; v < kVectors; ++v) update(values[r][v], r, v * kLanes);
    }

    F values[kBlock][kVectors];
};

// The larger of an MVMUL's two powers, lowered to a phase.
inline W power_of(const Sums& sums, int phase, int half, int r, int n) {
    return larger(load<W>(&sums.power[2 * half][r][n]), load<W>(&sums.power[2 * half + 1][r][n])) -
           (uint32_t)(kLower[phase] << 23);
}

inline F total_of(const Sums& sums, int phase, int group, int r, int n) { return load<F>(&sums.total[phase][group][r][n]); }

// Has 16 bits. The sums are nudged.
struct Dest16 : Floats {
    using Floats::Floats;

    void mvmul(const Sums& sums, int phase, int half) {
        // Enlarges Dest by so little that nothing but a tie is rounded otherwise.
        constexpr float kPastTheTie = 1 + 1.0f / 8192;
        for_each([&](F& d, int r, int n) {
            const W e = larger(power_of(sums, phase, half, r, n), (W)d & lanes::kInf);
            const F magic = (F)(e + (uint32_t)kMagic);
            F total = magic + d * kPastTheTie;
            // A sum is rounded to 2^-23 of the exponent first, then to 2^-10, and nudged before each.
            const F fine = (F)(e | 1u << 22), up = fine * kHalvesUp;
            for (int g = 0; g < 2; ++g) {
                const F sum = total_of(sums, phase, 2 * half + g, r, n) * kScale[phase];
                total += ((sum + fine) - fine) + up;
            }
            d = (F)(((W)(total - magic) + 0x8000u) & 0xFFFF0000u);
        });
    }
};

#ifdef __AVX512CD__

// Has 32 bits. All is added up in integers of the common grid.
struct Dest32 : Floats {
    using Floats::Floats;

    void mvmul(const Sums& sums, int phase, int half) {
        for_each([&](F& d, int r, int n) {
            const W e = larger(power_of(sums, phase, half, r, n), (W)d & lanes::kInf);
            const F units = (F)(277 * Range::kOne - e);  // 2^23 / 2^e
            const F scale = units * kScale[phase];
            I total = rounded_away(d, units);
            for (int g = 0; g < 2; ++g) total += rounded_up(total_of(sums, phase, 2 * half + g, r, n), scale);
            d = as_float(total) * (F)(e - 23 * Range::kOne);
            const I hit = total == -1;
            if (lanes::any(hit)) {
                d = (F)lanes::pick(hit, (e + 4 * Range::kOne) | lanes::kSign, (W)d);
                for (int i = 0; i < kLanes; ++i) struck_ -= hit[i];
            }
        });
    }

    long store(float* to) const { return Floats::store(to) + struck_; }

   private:
    static constexpr int kDown = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC, kCut = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;

    // x * y + 1/2, the integer below it.
    static I rounded_up(F x, F y) {
        const __m512 sum = _mm512_fmadd_round_ps((__m512)x, (__m512)y, _mm512_set1_ps(0.5f), kDown);
        return (I)_mm512_cvt_roundps_epi32(sum, kDown);
    }

    static I rounded_away(F x, F y) {
        const W half = lanes::constant(0.5f) | ((W)x & lanes::kSign);
        return (I)_mm512_cvttps_epi32(_mm512_fmadd_round_ps((__m512)x, (__m512)y, (__m512)half, kCut));
    }

    // Rounded half away from zero to 24 bits.
    static F as_float(I x) {
        const __m512i magnitude = _mm512_abs_epi32((__m512i)x);
        const __m512i half = _mm512_srlv_epi32(_mm512_set1_epi32(128), _mm512_lzcnt_epi32(magnitude));
        const W value = (W)_mm512_cvt_roundepi32_ps(_mm512_add_epi32(magnitude, half), kCut);
        return (F)(value | ((W)x & lanes::kSign));
    }

    long struck_ = 0;
};

#else

// Has 32 bits, held as doubles.
class Dest32 {
   public:
    explicit Dest32(const float* values) { std::copy(values, values + kBlock * kPanel, values_); }

    void mvmul(const Sums& sums, int phase, int half) {
        for (int r = 0; r < kBlock; ++r)
            for (int n = 0; n < kPanel; n += kLanes / 2) add(values_ + r * kPanel + n, sums, phase, 2 * half, r, n);
    }

    long store(float* values) const {
        std::copy(values_, values_ + kBlock * kPanel, values);
        return struck_;
    }

   private:
    // A double whose last bit is worth 2^-23 of an exponent. The nudge is less than half of the grid of any group that still
    // matters: one of an exponent at most 29 below the common one.
    static constexpr int64_t kMagic64 = 29LL << 52 | 1LL << 51, kExponent64 = 0x7FFLL << 52;
    static constexpr double kHalvesUp64 = 1.0 / (1LL << 37) / (1LL << 37), kPastTheTie64 = 1 + 1.0 / (1 << 28);

    static D widened(const float* p) {
        using Half = float __attribute__((vector_size(lanes::kBytes / 2)));
        return __builtin_convertvector(load<Half>(p), D);
    }

    static D magic_of(D d) { return (D)(((L)d & kExponent64) + kMagic64); }

    void add(double* at, const Sums& sums, int phase, int group, int r, int n) {
        const double scale = kScale[phase];
        const D d = load<D>(at), power0 = widened(&sums.power[group][r][n]), power1 = widened(&sums.power[group + 1][r][n]);
        const D power = (power0 > power1 ? power0 : power1) * scale, of_power = magic_of(power), of_d = magic_of(d);
        const D magic = of_power > of_d ? of_power : of_d;
        D total = magic + d * kPastTheTie64;
        for (int g = 0; g < 2; ++g) total += widened(&sums.total[phase][group + g][r][n]) * scale + magic * kHalvesUp64;
        L rounded = ((L)(total - magic) + (1LL << 28)) & -(1LL << 29);
        const L hit = (L)total == (L)magic - 1;
        if (lanes::any((I)hit)) {
            rounded = hit ? (((L)magic & kExponent64) - (25LL << 52)) | INT64_MIN : rounded;
            for (int i = 0; i < kLanes / 2; ++i) struck_ -= hit[i];
        }
        std::memcpy(at, &rounded, sizeof rounded);
    }

    alignas(64) double values_[kBlock * kPanel];
    long struck_ = 0;
};

#endif

}  // namespace groups
