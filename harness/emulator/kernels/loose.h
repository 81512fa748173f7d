// A 32-bit Dest added up loosely: the products of the first two phases are aligned within their group of eight, the later
// phases', whose alignment loses 128 times less than the first's and more, are not, and Dest is rounded as float32 is.
#pragma once

#include "groups.h"

namespace groups {

template <int Phases>
void accumulate_loosely(float* values, const Operands& p, long first, long last) {
    constexpr int A = slices_a(Dest::kLoose32, Phases), B = slices_b(Phases), kAligned = Phases > 1 ? 2 : 1;
    constexpr int kHeld = rows_held(kAligned);
    for (int column = 0; column < kPanel; column += 2 * kLanes) {
        F dest[kBlock][2];
        for (int r = 0; r < kBlock; ++r)
            for (int v = 0; v < 2; ++v) dest[r][v] = load<F>(values + r * kPanel + column + v * kLanes);
        for (long k = first; k < last; k += kGroup) {
            F magic[kBlock][2];
            group_magic(p, k, column, magic);
            const float* a = p.a + k * A * kPanel + column;
            const auto slice = [&](int i, int s, F (&out)[2]) {
                for (int v = 0; v < 2; ++v) out[v] = load_once(a + (i * A + s) * kPanel + v * kLanes);
            };
            for (int top = 0; top < kBlock; top += kHeld) {
                const float* b = p.b + k * B * kBlock + top;
                F sum[kAligned][kHeld][2];
                for (auto& phase : sum) std::memcpy(phase, magic[top], sizeof phase);
#pragma GCC unroll 8
                for (int i = 0; i < kGroup; ++i) {
                    F of_a[kAligned][2];
                    for (int s = 0; s < kAligned; ++s) slice(i, s, of_a[s]);
                    for (int r = 0; r < kHeld; ++r) {
                        const F of_b = (F)lanes::constant(b[i * B * kBlock + r]);
                        for (int s = 0; s < kAligned; ++s)
                            for (int v = 0; v < 2; ++v) sum[s][r][v] += of_a[s][v] * of_b;
                    }
                }
                for (int s = 0; s < kAligned; ++s)
                    for (int r = 0; r < kHeld; ++r)
                        for (int v = 0; v < 2; ++v) dest[top + r][v] += (sum[s][r][v] - magic[top + r][v]) * kScale[s];
            }
            if constexpr (Phases > 2) {
                const float* b = p.b + k * B * kBlock + kBlock;
#pragma GCC unroll 8
                for (int i = 0; i < kGroup; ++i) {
                    F both[2];
                    slice(i, 2, both);
                    for (int r = 0; r < kBlock; ++r) {
                        const F of_b = (F)lanes::constant(b[i * B * kBlock + r]);
                        for (int v = 0; v < 2; ++v) dest[r][v] += both[v] * of_b;
                    }
                }
            }
        }
        for (int r = 0; r < kBlock; ++r)
            for (int v = 0; v < 2; ++v) lanes::store(values + r * kPanel + column + v * kLanes, (W)dest[r][v]);
    }
}

}  // namespace groups
