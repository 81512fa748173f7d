// The matrix unit's arithmetic in floating point, for operands of ordinary exponents. With a 16-bit Dest it has every rule of
// numerics.md, "MVMUL". With a 32-bit Dest mode EXACT has every rule too, and mode DEVICE is cheaper: it leaves out how the
// third and fourth phase's products are aligned within their group of eight (which loses 128 times less than the first's), how
// the last bit of Dest is rounded, and the erratum.
#pragma once

#include <algorithm>
#include <cstdint>

#include "panels.h"

// The operands. in1: [k][column] of its two slices as floats, a little enlarged so that a product halfway between two points
// of its group's grid is rounded away from zero, and [k][word] of exponents, each word with those of two columns. in0:
// [row][k] of its two slices as floats, and of exponents, each twice in a word, less the bias of 127. `panel` is in1 as it was.
struct Phases {
    int count;
    const float* a[2];
    const uint32_t* exponent_a;
    const uint32_t* panel;
    bool wide;
    const float* b[2];
    const uint32_t* exponent_b;
};

// The exponents of float32 values that are not zero (nor denormal), kept as the bits of floats, the least less one.
struct Range {
    static constexpr uint32_t kOne = 1u << 23;
    uint32_t below_least = 255 * kOne, highest = 0;

    void add(uint32_t bits) {
        const uint32_t exponent = bits & 255 * kOne;
        below_least = std::min(below_least, exponent - kOne);  // a zero wraps around
        highest = std::max(highest, exponent);
    }
    void add(Range other) {
        below_least = std::min(below_least, other.below_least);
        highest = std::max(highest, other.highest);
    }
    int least() const { return below_least / kOne + 1; }
    int most() const { return highest / kOne; }
};

// Takes `k` rows of a panel apart: `a` as in Phases, the second one unless it is null. Returns the range of its exponents.
Range device_take_apart_a(const uint32_t* panel, bool wide, long k, float* const (&a)[2], uint32_t* exponent_a);

// Exponent of a zero operand: a product with one lies below every other.
constexpr int kNoExponent = -8192;

// Accumulates k [first, last) (whole tiles) onto dest [rows][kPanel]; in0's rows are `stride` k apart. Returns how often the
// erratum struck: 0 unless `exact` with a 32-bit Dest.
long device_accumulate(float* dest, long rows, const Phases& phases, long stride, long first, long last, bool fp32_dest,
                       bool exact);
