// Mode DEVICE: Dest rounded as the hardware rounds it. Of what products lose when they are aligned within their group of
// eight, the first two phases' share is modelled; the others' is 128 times less than the first's.
#pragma once

#include <cstdint>

#include "panels.h"

// The operands of the first two phases. in1: [k][column] of each phase's slices as floats, a little enlarged so that a product
// halfway between two points of its group's grid is rounded away from zero, and [k][word] of exponents, each word with those
// of two columns. in0: [row][k] of slices as floats, and of exponents, each twice in a word, less the bias of 127.
struct FirstPhases {
    int count;
    const float* a[2];
    const uint32_t* exponent_a;
    const float* b;
    const uint32_t* exponent_b;
};

// Takes `k` rows of a panel apart: `a` as in FirstPhases, the second one unless it is null.
void device_take_apart_a(const uint32_t* panel, bool wide, long k, float* const (&a)[2], uint32_t* exponent_a);

// A product of two later phases' slices, both in pairs of k.
struct Pass {
    const uint32_t *a, *b;
};

// Exponent of a zero operand: a product with one lies below every other.
constexpr int kNoExponent = -8192;

// Accumulates k [first, last) (whole tiles) onto dest [rows][kPanel]; in0's rows are `stride` k apart. With a 16-bit Dest
// the passes are the later phases in order, and Dest is rounded after each 16 k of each. With a 32-bit Dest its rounding is
// that of float32 additions, and any split of the remaining product into passes will do.
void device_accumulate(float* dest, long rows, const FirstPhases& phases, const Pass* passes, int count, long stride,
                       long first, long last, bool fp32_dest);
