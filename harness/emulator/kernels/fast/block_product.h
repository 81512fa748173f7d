// A block of a float32 product: as many sums as 16 registers leave room for, each in the order of k. Include it where the
// compiler may fuse products with sums.
#pragma once

#include "lanes.h"

namespace block_product {

using lanes::F;
using lanes::I;
using lanes::kLanes;
using lanes::W;

constexpr long kColumns = 2 * kLanes;
constexpr int kRows = 6;

inline F load(const float* p) { return (F)lanes::load(p); }
inline void store(float* p, F f) { lanes::store(p, (W)f); }

// To bfloat16, half to even.
inline F rounded(F x) {
    const W w = (W)x;
    return (F)((w + 0x7FFFu + (w >> 16 & 1)) & 0xFFFF0000u);
}

inline float as_float(uint16_t bits) {
    const uint32_t word = (uint32_t)bits << 16;
    float x;
    std::memcpy(&x, &word, sizeof x);
    return x;
}

// Adds a [kRows rows][depth] times b [depth][kColumns], whose rows are `stride` apart, to the sums.
inline void add_product(const float* const (&a)[kRows], const float* b, long stride, long depth, F (&sums)[kRows][2]) {
    F sum[kRows][2];
    std::memcpy(sum, sums, sizeof sum);
#pragma GCC unroll 2
    for (long k = 0; k < depth; ++k) {
        const F left = load(b + k * stride), right = load(b + k * stride + kLanes);
        for (int r = 0; r < kRows; ++r) {
            const F of_a = (F)lanes::constant(a[r][k]);  // a load, where a float added to zeros is a sum
            sum[r][0] += of_a * left;
            sum[r][1] += of_a * right;
        }
    }
    std::memcpy(sums, sum, sizeof sum);
}

}  // namespace block_product
