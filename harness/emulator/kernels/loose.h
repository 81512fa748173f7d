// Dest added up loosely.
//   32 bits: the products of the first two phases are aligned within their group of eight, the later phases', whose alignment
//       loses 128 times less than the first's and more, are not, and Dest is rounded as float32 is.
//   16 bits: the sum of a group of eight is not aligned, but rounded to Dest's grid, halves up, as it always is, and Dest to its
//       bits. These two roundings make up a 16-bit Dest's error, its gain included. Its grid is that of Dest's exponent alone.
#pragma once

#include "dest.h"

namespace groups {

template <int Phases>
void accumulate_loosely_32(float* values, const Operands& p, long first, long last) {
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

// What makes halves of Dest's grid go up: 2^-24 of Dest's exponent. It may be that of a Dest a few steps ago.
inline F nudge(F dest) {
    const W e = larger((W)dest & lanes::kInf, lanes::all(kLeastExponent * Range::kOne));
    return (F)(e - 24 * Range::kOne);
}

// One phase of half a K tile: a group's sums [row][vector] from k on are added to `total`, which is on Dest's grid.
template <int Phase, int A, int B>
inline void add_group(const Operands& p, long k, int column, const F (&up)[kBlock][2], F (&total)[kBlock][2]) {
    constexpr float scale = Phase < 2 ? 1 : kLowerB;
    const float *a = p.a + (k * A + Phase % 2) * kPanel + column, *b = p.b + (k * B + Phase / 2) * kBlock;
    F sum[kBlock][2];
    for (int r = 0; r < kBlock; ++r)
        for (int v = 0; v < 2; ++v) sum[r][v] = up[r][v] * (1 / scale);
#pragma GCC unroll 8
    for (int i = 0; i < kGroup; ++i) {
        F of_a[2];
        for (int v = 0; v < 2; ++v) of_a[v] = load_once(a + i * A * kPanel + v * kLanes);
        for (int r = 0; r < kBlock; ++r) {
            const F of_b = (F)lanes::constant(b[i * B * kBlock + r]);
            for (int v = 0; v < 2; ++v) sum[r][v] += of_a[v] * of_b;
        }
    }
    for (int r = 0; r < kBlock; ++r)
        for (int v = 0; v < 2; ++v) total[r][v] += sum[r][v] * scale;
}

template <int Phase, int A, int B>
inline void add_phase(const Operands& p, long tile, int column, const F (&up)[kBlock][2], F (&dest)[kBlock][2]) {
    for (long k = tile; k < tile + kTile; k += kDepth) {
        F magic[kBlock][2], total[kBlock][2];
        for (int r = 0; r < kBlock; ++r)
            for (int v = 0; v < 2; ++v) {
                magic[r][v] = (F)(((W)dest[r][v] & lanes::kInf) + (uint32_t)kMagic);
                total[r][v] = magic[r][v] + dest[r][v];
            }
        add_group<Phase, A, B>(p, k, column, up, total);
        add_group<Phase, A, B>(p, k + kGroup, column, up, total);
        for (int r = 0; r < kBlock; ++r)
            for (int v = 0; v < 2; ++v)
                dest[r][v] = (F)(((W)(total[r][v] - magic[r][v]) + 0x8000u) & 0xFFFF0000u);
    }
}

template <int Phases>
void accumulate_loosely_16(float* values, const Operands& p, long first, long last) {
    constexpr int A = slices_a(Dest::kLoose16, Phases), B = slices_b(Phases);
    for (int column = 0; column < kPanel; column += 2 * kLanes) {
        F dest[kBlock][2], up[kBlock][2];
        for (int r = 0; r < kBlock; ++r)
            for (int v = 0; v < 2; ++v) dest[r][v] = load<F>(values + r * kPanel + column + v * kLanes);
        for (long tile = first; tile < last; tile += kTile) {
            for (int r = 0; r < kBlock; ++r)
                for (int v = 0; v < 2; ++v) up[r][v] = nudge(dest[r][v]);
            add_phase<0, A, B>(p, tile, column, up, dest);
            if constexpr (Phases > 1) add_phase<1, A, B>(p, tile, column, up, dest);
            if constexpr (Phases > 2) add_phase<2, A, B>(p, tile, column, up, dest);
            if constexpr (Phases > 3) add_phase<3, A, B>(p, tile, column, up, dest);
        }
        for (int r = 0; r < kBlock; ++r)
            for (int v = 0; v < 2; ++v) lanes::store(values + r * kPanel + column + v * kLanes, (W)dest[r][v]);
    }
}

template <Dest Kind, int Phases>
void accumulate_loosely(float* values, const Operands& p, long first, long last) {
    if constexpr (Kind == Dest::kLoose16) accumulate_loosely_16<Phases>(values, p, first, last);
    else accumulate_loosely_32<Phases>(values, p, first, last);
}

}  // namespace groups
