// Dest added up loosely.
//   32 bits: one float32 sum of what all phases multiply. An operand has one slice, of HiFi3 two: all bits of in1 with the
//       higher ones of in0, and the other way round.
//   16 bits: the sum of a group of eight is not aligned, but rounded to Dest's grid, halves up, as it always is, and Dest to its
//       bits. These two roundings make up a 16-bit Dest's error, its gain included. Its grid is that of Dest's exponent alone.
#pragma once

#include "dest.h"

namespace groups {

// Adds the products of one slice of in1 and one of in0 to Dest, k [first, last).
template <int A, int B>
inline void add_products(const Operands& p, int slice_a, int slice_b, long first, long last, int column, F (&dest)[kBlock][2]) {
    const float *a = p.a + slice_a * kPanel + column, *b = p.b + slice_b * kBlock;
#pragma GCC unroll 4
    for (long k = first; k < last; ++k) {
        F of_a[2];
        for (int v = 0; v < 2; ++v) of_a[v] = load_once(a + k * A * kPanel + v * kLanes);
        for (int r = 0; r < kBlock; ++r) {
            const F of_b = (F)lanes::constant(b[k * B * kBlock + r]);
            for (int v = 0; v < 2; ++v) dest[r][v] += of_a[v] * of_b;
        }
    }
}

template <int Phases>
void accumulate_loosely_32(float* values, const Operands& p, long first, long last) {
    constexpr int A = slices_a(Dest::kLoose32, Phases), B = slices_b(Dest::kLoose32, Phases);
    for (int column = 0; column < kPanel; column += 2 * kLanes) {
        F dest[kBlock][2];
        for (int r = 0; r < kBlock; ++r)
            for (int v = 0; v < 2; ++v) dest[r][v] = load<F>(values + r * kPanel + column + v * kLanes);
        add_products<A, B>(p, 0, 0, first, last, column, dest);
        if constexpr (B > 1) add_products<A, B>(p, 1, 1, first, last, column, dest);
        for (int r = 0; r < kBlock; ++r)
            for (int v = 0; v < 2; ++v) lanes::store(values + r * kPanel + column + v * kLanes, (W)dest[r][v]);
    }
}

// What makes halves of Dest's grid go up: 2^-24 of Dest's exponent. It may be that of a Dest a few steps ago.
inline F nudge(F dest) {
    const W e = larger((W)dest & lanes::kInf, lanes::all(kLeastExponent * Range::kOne));
    return (F)(e - 24 * Range::kOne);
}

// An MVMUL whose groups' sums are nudged.
inline F mvmul_loosely(F dest, F left, F right) {
    const F magic = (F)(((W)dest & lanes::kInf) + (uint32_t)kMagic);
    F total = magic + dest;
    total += left;
    total += right;
    return (F)(((W)(total - magic) + 0x8000u) & 0xFFFF0000u);
}

// One phase of half a K tile: a group's sums [row][vector] from k on are added to `total`, which is on Dest's grid.
template <int Phase, int A, int B>
inline void add_group(const Operands& p, long k, int column, const F (&up)[kBlock][2], F (&total)[kBlock][2]) {
    const float *a = p.a + (k * A + Phase % 2) * kPanel + column, *b = p.b + (k * B + Phase / 2) * kBlock;
    F sum[kBlock][2];
    for (int r = 0; r < kBlock; ++r)
        for (int v = 0; v < 2; ++v) sum[r][v] = up[r][v];
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
        for (int v = 0; v < 2; ++v) total[r][v] += sum[r][v];
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
    constexpr int A = slices_a(Dest::kLoose16, Phases), B = slices_b(Dest::kLoose16, Phases);
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
