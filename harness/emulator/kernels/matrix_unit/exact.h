// The matrix unit's arithmetic in integers: every rule of numerics.md, "MVMUL", for any exponents, Inf and NaN among them.
#pragma once

#include <cstdint>

#include "panels.h"

// Rows of in0 taken apart: [row][k] of biased exponents (far below zero for a zero), and of the significands' two slices,
// signed.
struct ExactRows {
    const int16_t* exponent;
    const int16_t* slice[2];
    long stride;
};

// Takes `n` Src values apart, given as float32 bits.
void exact_take_apart_b(const uint32_t* words, long n, int16_t* exponent, int16_t* high, int16_t* low);

// Accumulates in0's k [first, last) (whole tiles) times a panel onto dest [rows][kPanel], in K order; `panel` is at k = 0,
// bfloat16 pairs or float32 (`wide`). Returns how often the fp32 Dest erratum struck.
long exact_accumulate(float* dest, long rows, const ExactRows& in0, const uint32_t* panel, bool wide, long first, long last,
                      int phases, bool fp32_dest);
