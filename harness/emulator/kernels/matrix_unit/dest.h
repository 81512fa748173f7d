// Dest of a block of rows, and what an MVMUL does to it: both groups of 16 k and Dest are rounded to one grid, that of the
// largest exponent of the three, halves of a group up and those of Dest away from zero; then the sum is rounded to the bits
// that Dest has, half away from zero.
#pragma once

#include "groups.h"

namespace groups {

using D = double __attribute__((vector_size(lanes::kBytes)));
using L = int64_t __attribute__((vector_size(lanes::kBytes)));

// Dest values held as float32, and what the forms of Dest that hold them so have in common.
struct Floats {
    explicit Floats(const float* from) {
        for (int r = 0; r < kBlock; ++r) std::memcpy(values[r], from + r * kPanel, sizeof values[r]);
    }

    long store(float* to) const {
        for (int r = 0; r < kBlock; ++r) std::memcpy(to + r * kPanel, values[r], sizeof values[r]);
        return 0;
    }

    // Calls update for each vector of Dest, at one half of a tile's k and then at the other.
    template <class Update>
    void for_each(const Update& update) {
        for (int half = 0; half < kTile / kDepth; ++half)
            for (int r = 0; r < kBlock; ++r)
                for (int v = 0; v < 2; ++v) update(half, r, v, values[r][v]);
    }

    F values[kBlock][2];
};

inline W larger(W a, W b) { return a > b ? a : b; }

// The larger of the powers of an MVMUL's two groups.
inline W power_of(const Sums& sums, int half, int r, int v) {
    return larger(sums.power[2 * half][r][v], sums.power[2 * half + 1][r][v]);
}

// The exponent that a phase's products and Dest have at most, as a power of two.
template <int Phase>
inline W common_exponent(W power, F d) {
    return larger(power - (uint32_t)(kLower[Phase] << 23), (W)d & lanes::kInf);
}

// Has 16 bits. The sums are nudged.
struct Dest16 : Floats {
    using Floats::Floats;

    template <int Phase>
    void add(const Sums& sums) {
        for_each([&](int half, int r, int v, F& d) {
            const F(&total)[kGroups][kBlock][2] = sums.total[Phase];
            d = mvmul<Phase>(d, power_of(sums, half, r, v), total[2 * half][r][v], total[2 * half + 1][r][v]);
        });
    }

    template <int Phase>
    static F mvmul(F d, W power, F left, F right) {
        // Enlarges Dest by so little that nothing but a tie is rounded otherwise.
        constexpr float kPastTheTie = 1 + 1.0f / 8192;
        const W e = common_exponent<Phase>(power, d);
        const F magic = (F)(e + (uint32_t)kMagic);
        // A sum is rounded to 2^-23 of the exponent first, then to 2^-10, halves up each time: what lies at most half of the
        // former, 2^-24, below a half of the latter goes up. A sum of a grid too coarse for that minds it not.
        const F up = (F)(e - 24 * Range::kOne);
        F total = magic + d * kPastTheTie;
        total += left * kScale[Phase] + up;
        total += right * kScale[Phase] + up;
        return (F)(((W)(total - magic) + 0x8000u) & 0xFFFF0000u);
    }
};

#ifdef __AVX2__

// Has 32 bits. All is added up in integers of the common grid.
struct Dest32 : Floats {
    using Floats::Floats;

    template <int Phase>
    void add(const Sums& sums) {
        for_each([&](int half, int r, int v, F& d) {
            const F(&total)[kGroups][kBlock][2] = sums.total[Phase];
            d = mvmul<Phase>(d, power_of(sums, half, r, v), total[2 * half][r][v], total[2 * half + 1][r][v]);
        });
    }

    template <int Phase>
    F mvmul(F d, W power, F left, F right) {
        const W e = common_exponent<Phase>(power, d);
        const F units = (F)(277 * Range::kOne - e);  // 2^23 / 2^e
        const F scale = units * kScale[Phase];
        const I total = rounded_away(d, units) + rounded_up(left * scale) + rounded_up(right * scale);
        d = as_float(total) * (F)(e - 24 * Range::kOne);
        const I hit = total == -1;
        if (lanes::any(hit)) {
            d = (F)lanes::pick(hit, (e + 4 * Range::kOne) | lanes::kSign, (W)d);
            for (int i = 0; i < kLanes; ++i) struck_ -= hit[i];
        }
        return d;
    }

    long store(float* to) const { return Floats::store(to) + struck_; }

   private:
    // Halves up: a group's sum has some 16 bits, so that adding a half loses none that matters.
    static I rounded_up(F x) {
#ifdef __AVX512F__
        constexpr int kDown = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
        return (I)_mm512_cvt_roundps_epi32((__m512)(x + 0.5f), kDown);
#else
        return (I)_mm256_cvttps_epi32(_mm256_floor_ps((__m256)(x + 0.5f)));
#endif
    }

    // Halves away from zero: adding the float below a half, a sum is rounded to the next integer from the half on.
    static I rounded_away(F x, F units) {
        const F magnitude = (F)((W)x & ~lanes::kSign) * units + 0.49999997f;
        return with_sign_of((W)x, __builtin_convertvector(magnitude, I));
    }

    // Twice the value, rounded half away from zero to 24 bits: beyond 24 bits one unit of the double more turns a tie, and no
    // other number, into something beyond the middle.
    static F as_float(I x) {
        const I magnitude = x < 0 ? -x : x;
        return __builtin_convertvector(x + x - with_sign_of((W)x, magnitude >= 1 << 24), F);
    }

    static I with_sign_of(W sign, I x) {
#ifdef __AVX512F__
        return lanes::with_sign(sign, x);
#else
        return (I)_mm256_sign_epi32((__m256i)x, (__m256i)sign);  // a zero stays, for x is one too then
#endif
    }

    long struck_ = 0;
};

#else

// Has 32 bits, held as doubles.
class Dest32 {
   public:
    explicit Dest32(const float* from) {
        for (int r = 0; r < kBlock; ++r) std::copy(from + r * kPanel, from + r * kPanel + kWidth, values_[r]);
    }

    template <int Phase>
    void add(const Sums& sums) {
        for (int half = 0; half < kTile / kDepth; ++half)
            for (int r = 0; r < kBlock; ++r)
                for (int n = 0; n < kWidth; n += kLanes / 2) mvmul(&values_[r][n], sums, Phase, half, r, n);
    }

    long store(float* to) const {
        for (int r = 0; r < kBlock; ++r) std::copy(values_[r], values_[r] + kWidth, to + r * kPanel);
        return struck_;
    }

   private:
    static constexpr int kWidth = 2 * kLanes;
    // A double whose last bit is worth 2^-23 of an exponent. The nudge is less than half of the grid of any group that still
    // matters: one of an exponent at most 29 below the common one.
    static constexpr int64_t kMagic64 = 29LL << 52 | 1LL << 51, kExponent64 = 0x7FFLL << 52;
    static constexpr double kHalvesUp64 = 1.0 / (1LL << 37) / (1LL << 37), kPastTheTie64 = 1 + 1.0 / (1 << 28);

    // Columns from n on.
    static D widened(const void* vectors, int n) {
        using Half = float __attribute__((vector_size(lanes::kBytes / 2)));
        return __builtin_convertvector(load<Half>(static_cast<const float*>(vectors) + n), D);
    }

    static D magic_of(D d) { return (D)(((L)d & kExponent64) + kMagic64); }

    void mvmul(double* at, const Sums& sums, int phase, int half, int r, int n) {
        const double scale = kScale[phase];
        const D d = load<D>(at), power0 = widened(sums.power[2 * half][r], n), power1 = widened(sums.power[2 * half + 1][r], n);
        const D power = (power0 > power1 ? power0 : power1) * scale;
        const D of_power = magic_of(power), of_d = magic_of(d);
        const D magic = of_power > of_d ? of_power : of_d;
        D total = magic + d * kPastTheTie64;
        for (int g = 0; g < 2; ++g) total += widened(sums.total[phase][2 * half + g][r], n) * scale + magic * kHalvesUp64;
        L rounded = ((L)(total - magic) + (1LL << 28)) & -(1LL << 29);
        const L hit = (L)total == (L)magic - 1;
        if (lanes::any((I)hit)) {
            rounded = hit ? (((L)magic & kExponent64) - (25LL << 52)) | INT64_MIN : rounded;
            for (int i = 0; i < kLanes / 2; ++i) struck_ -= hit[i];
        }
        std::memcpy(at, &rounded, sizeof rounded);
    }

    alignas(64) double values_[kBlock][kWidth];
    long struck_ = 0;
};

#endif

}  // namespace groups
