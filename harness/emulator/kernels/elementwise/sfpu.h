// Functions of the SFPU for a float32 Dest, on a register of lanes: the steps of arithmetic/sfpu/functions.py and rules.py, where they are
// explained. What the kernel then stores to Dest is `stored` of lanes.h.
#pragma once

#include "lanes.h"

namespace sfpu {

using namespace lanes;

constexpr float kLog2E = 1.442695f, kLn2 = -6.93145752e-1f, kLn2Rest = -1.42860677e-6f;

template <class Step>
inline W exp_polynomial(W f, const Step& step) {
    W y = step(constant(1.37805939e-3f), f, 8.37312452e-3f);
    y = step(y, f, 4.16695364e-2f);
    y = step(y, f, 1.66664720e-1f);
    y = step(y, f, 4.99999851e-1f);
    return step(y, f, 1.0f);
}

inline W with_added_exponent(W r, I scaled) { return (r & ~kInf) | (W)(scaled & 255) << 23; }

// Any x, every step a whole SFPMAD.
inline W exp_of_any(W x) {
    const I whole = to_int16(mul(x, kLog2E));
    const W f = mad(to_float(whole), constant(kLn2Rest), mad(to_float(whole), constant(kLn2), x));
    const W y = exp_polynomial(f, [](W a, W b, float c) { return mad(a, b, c); });
    const W r = mad(y, f, 1.0f);
    const I scaled = exponent(r) + whole;
    // y with its last bit taken off, times 0: NaN where x was NaN or Inf, else 0; overflow adds Inf to that.
    const I special = exponent(y - 1) == 255;
    const W nan = ((y - 1) & kSign) | kNan;
    const W under = pick(special, nan, W{}), over = pick(special, nan, all(kInf));
    return pick(scaled < 1, under, pick(scaled < 255, with_added_exponent(r, scaled), over));
}

inline W exp(W x) {
    if (any(exponent(x) > 127 + 6)) return exp_of_any(x);  // |x| >= 128, Inf, NaN
    const I whole = to_int16(native_mul(x, kLog2E));
    const W j = to_float(whole);
    W f = fused(j, constant(kLn2), x);  // j has 8 bits, the constant 15: an exact product
    const I product = exponent(j) + exponent(constant(kLn2Rest)) - 127;
    const I close = (whole != 0) & (exponent(f) < product + 3);
    f = any(close) ? mad(j, constant(kLn2Rest), f) : fused(j, constant(kLn2Rest), f);
    const W y = exp_polynomial(f, [](W a, W b, float c) { return fused(a, b, c); });
    const W r = fused(y, f, 1.0f);
    const I scaled = exponent(r) + whole;
    return pick(scaled < 1, W{}, pick(scaled < 255, with_added_exponent(r, scaled), all(kInf)));
}

// `mul`: where no lane has a product beyond the ordinary numbers, it is rounded as the CPU rounds.
inline W scaled_by(W x, float factor) {
    const W product = native_mul(x, factor);
    const I zero = (x << 1) == 0, field = exponent(product);
    if (any((field == 255) | ((field == 0) & ~zero))) return mul(x, factor);
    return pick(zero, W{}, product);
}

// `correction` of sfpu_steps.py, with the polynomial.
inline W correction(W x, float scale) {
    const W scaled = mul(x, scale);
    const I whole = larger(smaller(to_int16(mul(scaled, 1.44269504088896340736f)), all_int(127)), all_int(-127));
    const W rest = mad(to_float(whole), constant(-0.69314718055994530942f), scaled);
    W y = constant(0.041959439860014343843f);
    for (const float c : {0.16792157982882225103f, 0.49998365704615426417f, 0.99996228117047652035f, 1.0000001510806179002f})
        y = mad(rest, y, c);
    return pick(whole == -127, W{}, mul(y, (W)(whole + 127) << 23));
}

inline W exp_approximate(W x, float factor) {
    const I i = to_int16(mad(x, factor, 32500.818359375f));
    return (W)pick(i < 0, -i, i) << 15 | ((W)i & kSign);
}

inline W reciprocal(W x) {
    const W minus = (x & kMantissa) | 0xBF800000u;
    W y = fused(minus, constant(0.3232325017452239990234375f), 1.4545459747314453125f);
    y = mad(y, minus, 2.121212482452392578125f);
    y = fused(y, mad(minus, y, 1.0f), y);
    y = fused(y, mad(minus, y, 1.0f), y);
    // Times 2**(127 - e), made as 2**(128 - e) and halved: zero gives Inf, Inf zero.
    const I scale = 255 - exponent(x), biased = exponent(y) + scale - 1 - 127;
    const W scaled = (y & kMantissa) | (W)biased << 23;
    const W magnitude = pick(scale == 255, all(kInf), pick((scale <= 1) | (biased <= 0), W{}, scaled));
    return magnitude | (x & kSign);
}

inline W rsqrt(W x) {
    W y = 0x5F1110A0u - (x >> 1);
    const W c = mul(y ^ kSign, mul(x, y));
    y = mul(y, mad(c, add(c, 2.2533049f), 2.2825186f));
    const W rest = mad(y ^ kSign, mul(x, y), 1.0f);
    const W half = pick(exponent(y) == 0, y, y - 0x800000u);
    const W ordinary = pick(negative(x), all(0x7FC00000u), mad(rest, half, y));
    return pick(((x << 1) == 0) | (x == kInf), kInf - x, ordinary);
}

inline W sigmoid(W x) {
    const W e = exp(x ^ kSign);
    return reciprocal(any(exponent(e) == 255) ? add(e, 1.0f) : (W)((F)e + 1.0f));
}

}  // namespace sfpu
