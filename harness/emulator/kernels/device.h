// Mode DEVICE: Dest rounded as the hardware rounds it. Of what products lose when they are aligned within their group of
// eight, the first phase's share is modelled: the next phase's is 32 times less.
#pragma once

#include <cstdint>

#include "panels.h"

// The operands of the first phase, [row][k] and [k][column]: slices as floats (`a` with `kPastTheTie` in it), and exponents.
struct FirstPhase {
    const float *a, *b;
    const int16_t *exponent_a, *exponent_b;
};

// A product of two later phases' slices, both in pairs of k.
struct Pass {
    const uint32_t *a, *b;
};

// Brings a product that lies halfway between two points of its group's grid past the middle, and no other product over it.
constexpr float kPastTheTie = 1 + 1.0f / 8192;

// Exponent of a zero operand: a product with one lies below every other.
constexpr int16_t kNoExponent = -8192;

// Accumulates k [first, last) (whole tiles) onto dest [rows][kPanel]; in0's rows are `stride` k apart. With a 16-bit Dest
// the passes are the phases in order, and Dest is rounded after each 16 k of each. With a 32-bit Dest its rounding is that
// of float32 additions, and any split of the remaining product into passes will do.
void device_accumulate(float* dest, long rows, const FirstPhase& phase, const Pass* passes, int count, long stride,
                       long first, long last, bool fp32_dest);
