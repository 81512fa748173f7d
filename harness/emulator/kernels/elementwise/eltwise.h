// Elementwise operations of the matrix unit on a register of lanes (numerics.md, "Eltwise / reduce"): the rules of fpu.py and
// fpu_rules.py, where they are spelled out.
#pragma once

#include "lanes.h"

namespace eltwise {

using namespace lanes;

// The significand with `unit` fraction bits, 0 for zeros and denormals.
template <int unit>
inline I significand_of(W w) {
    return (I)(significand(w) >> (23 - unit));
}

// magnitude / 2**by, halves up, less where `tie` is 1; magnitudes have at most `width` bits.
template <int width>
inline I shifted(I magnitude, I by, I tie = I{}) {
    by = smaller(by, all_int(width + 2));
    return (magnitude + ((1 << by) >> 1) - (tie & (by > 0))) >> by;
}

// total * 2**(top - 127 - unit) rounded half away to a Dest of 24 or 8 significant bits.
template <bool fp32_dest, int unit>
inline W to_dest(I total, I top) {
    const W sign = (W)total & kSign;
    I magnitude = larger(total, -total);
    if (fp32_dest && unit == 23) {
        magnitude = pick(total == -1, all_int(1 << 27), magnitude);  // the silicon bug of numerics.md, "MVMUL"
        const I drop = -((magnitude >= 1 << 24) + (magnitude >= 1 << 25) + (magnitude >= 1 << 26));
        magnitude = (magnitude + ((1 << drop) >> 1)) >> drop;
        top += drop;
    }
    W w = to_float(magnitude);
    if (!fp32_dest) w = (w + 0x8000u) & 0xFFFF0000u;
    const I biased = exponent(w) + top - (127 + unit);
    const W result = pick(biased >= 255, sign | kInf, sign | (W)biased << 23 | (w & kMantissa));
    return pick((biased <= 0) | (total == 0), W{}, result);
}

template <bool fp32_dest>
inline W source(W w) {
    return w & (fp32_dest ? 0xFFFFE000u : 0xFFFF0000u);
}

template <bool fp32_dest>
struct Add {
    Word turn;  // kSign to subtract

    W operator()(W a, W b, W) const {
        a = source<fp32_dest>(a);
        b = source<fp32_dest>(b) ^ turn;
        const I ea = exponent(a), eb = exponent(b), top = larger(ea, eb);
        const I total = with_sign(a, shifted<11>(significand_of<10>(a), top - ea)) +
                        with_sign(b, shifted<11>(significand_of<10>(b), top - eb));
        return to_dest<fp32_dest, 10>(total, top);
    }
};

// Adds a product (12 bits, unit 2**(e - 127 - 10); nothing where e <= 0) to the Dest. Halves of negative products go
// toward zero.
template <bool fp32_dest>
inline W accumulated(W dest, W sign, I product, I e) {
    constexpr int unit = fp32_dest ? 23 : 10;
    const I present = e > 0, ed = exponent(dest), top = larger(ed, e & present);
    const I term = shifted<unit + 2>((product << (unit - 10)) & present, top - e, (I)(sign >> 31));
    return to_dest<fp32_dest, unit>(
        with_sign(dest, shifted<unit + 1>(significand_of<unit>(dest), top - ed)) + with_sign(sign, term), top);
}

// The product's exponent, far below 0 where an operand is zero.
inline I product_exponent(W a, W b) {
    const I ea = exponent(a), eb = exponent(b);
    return pick((ea == 0) | (eb == 0), all_int(-1000), ea + eb - 127);
}

// Any operands and Dest.
template <bool fp32_dest, int phases>
inline W multiply_accumulate(W a, W b, W dest) {
    const I ma = significand_of<10>(a), mb = significand_of<10>(b), e = product_exponent(a, b);
    const I high_a = ma >> 6, low_a = ma >> 1 & 31, high_b = mb >> 4, low_b = (mb & 15) << 3;
    const W sign = (a ^ b) & kSign;
    dest = accumulated<fp32_dest>(dest, sign, high_a * high_b, e);
    if (phases > 1) dest = accumulated<fp32_dest>(dest, sign, low_a * high_b, e - 5);
    if (phases > 2) dest = accumulated<fp32_dest>(dest, sign, high_a * low_b, e - 7);
    if (phases > 3) dest = accumulated<fp32_dest>(dest, sign, low_a * low_b, e - 12);
    return dest;
}

// From a zero Dest and with every phase's exponent an ordinary one, a float32 Dest ends with the exact product of the bits
// that were multiplied: 21 at most.
template <int phases>
inline W multiply_fp32(W a, W b) {
    const F high_a = (F)(a & 0xFFF80000u), all_a = (F)(a & 0xFFFFC000u), high_b = (F)(b & 0xFFFE0000u), all_b = (F)b;
    const F product = phases == 1   ? high_a * high_b
                      : phases == 2 ? all_a * high_b
                      : phases == 3 ? all_a * high_b + high_a * (all_b - high_b)
                                    : all_a * all_b;
    return pick((exponent(a) == 0) | (exponent(b) == 0), W{}, (W)product);
}

// How far a Dest of 12 bits or a little more is above the first phase's exponent.
inline I level(I m) { return -((m >= 2048) + (m >= 4096)); }

inline I eight_bits(I m) {
    const I unit = 8 << level(m);
    return (m + (unit >> 1)) & -unit;
}

template <int share>
inline I with_phase(I m, I product, I negative) {
    const I up = level(m), by = up + share;
    return eight_bits(m + ((product + ((1 << by) >> 1) - negative) >> by << up));
}

// The same with a bfloat16 Dest, as an integer in units of the first phase's 2**-10.
template <int phases>
inline W multiply_bf16(W a, W b) {
    const I ma = significand_of<10>(a), mb = significand_of<10>(b), e = product_exponent(a, b);
    const I high_a = ma >> 6, low_a = ma >> 1 & 31, high_b = mb >> 4, low_b = (mb & 15) << 3;
    const W sign = (a ^ b) & kSign;
    const I negative = (I)(sign >> 31);
    I m = eight_bits(high_a * high_b);
    if (phases > 1) m = with_phase<5>(m, low_a * high_b, negative);
    if (phases > 2) m = with_phase<7>(m, high_a * low_b, negative);
    if (phases > 3) m = with_phase<12>(m, low_a * low_b, negative);
    const W w = to_float(m);
    return pick(e < 0, W{}, sign | (w + ((W)(e - 137) << 23)));
}

template <bool fp32_dest, int phases>
struct Multiply {
    bool from_zero;

    W operator()(W a, W b, W dest) const {
        a = source<fp32_dest>(a);
        b = source<fp32_dest>(b);
        const I e = product_exponent(a, b), largest = larger(exponent(a), exponent(b));
        const I ordinary = (largest < 255) & ((e == -1000) | ((e > 12) & (e < 252)));
        if (!from_zero || any(~ordinary)) return multiply_accumulate<fp32_dest, phases>(a, b, dest);
        return fp32_dest ? multiply_fp32<phases>(a, b) : multiply_bf16<phases>(a, b);
    }
};

// What the packer writes of a Dest value to BFLOAT16, in the upper half: half away from zero, NaN as Inf, -0 as +0.
inline W packed(W w) {
    const W rounded = pick(exponent(w) == 255, (w & kSign) | kInf, w + 0x8000u);
    return pick(exponent(w) == 0, W{}, rounded);
}

}  // namespace eltwise
