// The matrix unit's arithmetic in floating point, for operands of ordinary exponents: every rule of numerics.md, "MVMUL". Of
// each Dest there is a loose form too, at a fraction of the cost (loose.h).
#pragma once

#include <algorithm>
#include <cstdint>

#include "panels.h"

// Rows of in0 whose Dest values are worked on together.
constexpr int kBlock = 4;

// The operands, each taken apart into its slices as floats and its exponents. Lower slices are scaled up to where the higher
// ones are, so that all phases of a group have one grid; added up loosely, where groups have no grid, they are as they are.
//   in1: a [k][slice][column], a little enlarged so that a product halfway between two points of its group's grid is rounded
//        away from zero, and exponent_a [k][word], each word with those of two columns.
//   in0: b [k][slice][row] of one block of kBlock rows, and exponent_b [k][row], each twice in a word, less the bias of 127.
// Lower slices are there where the phases want them. With a loose 32-bit Dest the slices are others: what a phase multiplies is
// added up with what the next one does (loose.h).
struct Operands {
    const float *a, *b;
    const uint32_t *exponent_a, *exponent_b;
};

enum class Dest { k16, kLoose16, k32, kLoose32 };

constexpr int slices_a(Dest dest, int phases) { return phases == 3 || (phases > 1 && dest != Dest::kLoose32) ? 2 : 1; }
constexpr int slices_b(Dest dest, int phases) { return phases == 3 || (phases > 2 && dest != Dest::kLoose32) ? 2 : 1; }

// The lower slices count this much less than the higher ones.
constexpr float kLowerA = 1.0f / (1 << 5), kLowerB = 1.0f / (1 << 7);

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

// The exponents that products, in any phase, and Dest must have.
constexpr int kLeastExponent = 36, kMostExponent = 200;

// Takes `k` rows of a panel (bfloat16 pairs or float32) apart. Returns the range of its exponents.
Range device_take_apart_a(const uint32_t* panel, bool wide, long k, Dest dest, int phases, float* a, uint32_t* exponent_a);

// Exponent of a zero operand: a product with one lies below every other.
constexpr int kNoExponent = -8192;

// Accumulates k [first, last) (whole tiles) onto values [kBlock][kPanel]. Returns how often the fp32 Dest erratum struck.
long device_accumulate(float* values, const Operands& operands, long first, long last, Dest dest, int phases);
