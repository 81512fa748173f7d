// A register of 32-bit lanes as a compiler vector, as wide as the CPU has them, and the SFPU's arithmetic on it: the rules of
// sfpu_lanes.py, where they are spelled out.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace lanes {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
constexpr int kLanes = kBytes / 4;
using Word = uint32_t;
using W = uint32_t __attribute__((vector_size(kBytes)));
using I = int32_t __attribute__((vector_size(kBytes)));
using F = float __attribute__((vector_size(kBytes)));
using H = uint16_t __attribute__((vector_size(kBytes / 2)));

constexpr Word kSign = 0x80000000u, kInf = 0x7F800000u, kMantissa = 0x7FFFFFu, kNan = 0x7F800001u;

inline W all(Word w) { return W{} + w; }
inline I all_int(int i) { return I{} + i; }

inline Word bits(float x) {
    Word w;
    std::memcpy(&w, &x, sizeof w);
    return w;
}

inline W constant(float x) { return all(bits(x)); }

inline W pick(I mask, W a, W b) { return mask ? a : b; }
inline I pick(I mask, I a, I b) { return mask ? a : b; }
inline I smaller(I a, I b) { return a < b ? a : b; }
inline I larger(I a, I b) { return a > b ? a : b; }

inline I exponent(W w) { return (I)(w >> 23 & 255); }
inline I negative(W w) { return (I)w < 0; }
inline I with_sign(W of, I magnitude) { return pick(negative(of), -magnitude, magnitude); }
inline W to_float(I i) { return (W)__builtin_convertvector(i, F); }

// The 24-bit significand, 0 for zeros and denormals.
inline W significand(W w) { return pick(exponent(w) == 0, W{}, (w & kMantissa) | 0x800000u); }

inline bool any(I mask) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX2__)
    return _mm256_movemask_epi8((__m256i)mask) != 0;
#elif defined(__x86_64__)
    return _mm_movemask_epi8((__m128i)mask) != 0;
#else
    int32_t some = 0;
    for (int i = 0; i < kLanes; ++i) some |= mask[i];
    return some != 0;
#endif
}

inline W load(const float* p) {
    W w;
    std::memcpy(&w, p, sizeof w);
    return w;
}

inline W load(const uint16_t* p) {
    H h;
    std::memcpy(&h, p, sizeof h);
    return __builtin_convertvector(h, W) << 16;
}

inline void store(float* p, W w) { std::memcpy(p, &w, sizeof w); }

inline void store(uint16_t* p, W w) {
    H h = __builtin_convertvector(w >> 16, H);
    std::memcpy(p, &h, sizeof h);
}

// The lanes from p on, zeros after the first `count`.
template <class T>
inline W some(const T* p, long count) {
    if (count >= kLanes) return load(p);
    T part[kLanes] = {};
    std::memcpy(part, p, sizeof(T) * count);
    return load(part);
}

// Stores the first `count` lanes.
template <class T>
inline void put(T* to, W w, long count) {
    if (count >= kLanes) return store(to, w);
    T part[kLanes];
    store(part, w);
    std::memcpy(to, part, sizeof(T) * count);
}

inline I shifted_sticky(I magnitude, I by) {
    const I least = smaller(by, all_int(27));
    const I kept = magnitude >> least;
    const I lost = (kept << least) != magnitude;  // -1 where bits were lost
    return pick(least == 27, I{}, kept | (lost & 1));
}

// SFPMAD: x * y + z. The 48-bit product is built of 12-bit halves, so that all of it fits 32-bit lanes.
inline W mad(W x, W y, W z) {
    const I ex = exponent(x), ey = exponent(y), ez = exponent(z);
    const W mx = significand(x), my = significand(y), mz = significand(z);
    const W sign_p = (x ^ y) & kSign, sign_z = z & kSign;

    const W high = (mx >> 12) * (my >> 12), low = (mx & 0xFFF) * (my & 0xFFF);
    const W middle = (mx >> 12) * (my & 0xFFF) + (mx & 0xFFF) * (my >> 12);
    const I cut = (((middle << 12) + low) & 0xFFFFF) != 0;
    I product = (I)((high << 4) + ((middle + (low >> 12)) >> 8)) | (cut & 1);
    I ep = ex + ey - 127;
    const I zero_x = mx == 0, zero_y = my == 0;
    const I infinite = (~zero_x & ~zero_y & (ep >= 255)) | (ex == 255) | (ey == 255);
    product = pick(ep + (product >> 27) <= 0, I{}, product);
    ep = smaller(ep, all_int(255));

    const I addend = (I)(mz << 3);
    const I top = larger(pick(product == 0, all_int(-1024), ep), pick(addend == 0, all_int(-1024), ez));
    const I total = with_sign(sign_p, shifted_sticky(product, top - ep)) +
                    with_sign(sign_z, shifted_sticky(addend, top - ez));

    const W sum = to_float(total);  // rounds half to even to 24 bits
    const I biased = exponent(sum) + top - (127 + 26);
    W w = (sum & kSign) | (W)biased << 23 | (sum & kMantissa);
    w = pick(biased >= 255, (sum & kSign) | kInf, w);
    w = pick((biased <= 0) | (total == 0), W{}, w);

    const I nan_p = ((ex == 255) & ((mx != 0x800000u) | zero_y)) | ((ey == 255) & ((my != 0x800000u) | zero_x));
    const I special_z = ez == 255, nan_z = special_z & (mz != 0x800000u), inf_z = special_z & (mz == 0x800000u);
    const I nan = nan_p | nan_z | (infinite & inf_z & (sign_p != sign_z));
    const W junk = w & kMantissa;
    w = pick(inf_z, sign_z | kInf, w);
    w = pick(infinite, sign_p | kInf, w);
    return pick(nan, pick(nan_p | ~nan_z, sign_p, sign_z) | kNan | junk, w);
}

// SFPMAD where it is known to equal a fused multiply-add of finite numbers: z's exponent is at least the product's, less 3,
// and at most one leading bit cancels. Then only the product is cut, at least 2 bits below where the sum is rounded.
inline W fused(W x, W y, W z) {
#if defined(__AVX512F__)
    return (W)_mm512_fmadd_ps((__m512)x, (__m512)y, (__m512)z);
#elif defined(__AVX2__) && defined(__FMA__)
    return (W)_mm256_fmadd_ps((__m256)x, (__m256)y, (__m256)z);
#else
    return mad(x, y, z);
#endif
}

inline W fused(W x, W y, float z) { return fused(x, y, constant(z)); }
inline W mad(W x, float y, float z) { return mad(x, constant(y), constant(z)); }
inline W mad(W x, W y, float z) { return mad(x, y, constant(z)); }
inline W mul(W x, W y) { return mad(x, y, W{}); }
inline W mul(W x, float y) { return mul(x, constant(y)); }
inline W add(W x, float y) { return mad(x, constant(1.0f), constant(y)); }
inline W native_mul(W x, float y) { return (W)((F)x * y); }

// SFP_STOCH_RND to sign and 15 bits, half away from zero, saturating.
inline I to_int16(W x) {
    const I shift = larger(smaller(150 - exponent(x), all_int(26)), all_int(0));
    const I magnitude = ((I)significand(x) + ((1 << shift) >> 1)) >> shift;
    // Below a shift of 9 the magnitude is beyond 15 bits, however it is rounded.
    return with_sign(x, smaller(magnitude, all_int(32767)));
}

// SFPSTORE to a float32 Dest.
inline W stored(W x) { return pick(exponent(x) == 0, x & kSign, x); }

}  // namespace lanes
