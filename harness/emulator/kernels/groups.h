// What a K tile brings to Dest: in each phase, the sum of each group of eight products, aligned to the group's grid.
#pragma once

#include "device.h"
#include "lanes.h"

namespace groups {

using lanes::F;
using lanes::I;
using lanes::W;
using lanes::kLanes;
using S = int16_t __attribute__((vector_size(lanes::kBytes)));  // two vectors' columns

constexpr int kVectors = kPanel / kLanes, kGroups = kTile / kGroup;

// By how much the exponents of a phase's products lie below those of the first.
constexpr int kLower[] = {0, 5, 7, 12};
// What the slices of a phase's products, which are scaled up, count.
constexpr float kScale[] = {1, kLowerA, kLowerB, kLowerA * kLowerB};

// For a group of zeros, that no exponent need be handled with care. It is the least that products have.
constexpr int kAbsent = kLeastExponent;

// A float whose last bit is worth 2^-10 of an exponent: what is added to it is rounded to that grid, half to even.
constexpr int kMagic = 13 << 23 | 1 << 22;

// Of a magic number: three eighths of its grid. Added to a sum on that grid it makes halves of any coarser grid go up.
constexpr float kHalvesUp = 1.0f / (1 << 25);

// [phase][group][row][column] of sums, the later phases' scaled up by kLower, and [group][row][column] of a group's largest
// exponent in the first phase, as a power of two.
struct Sums {
    alignas(64) float total[4][kGroups][kBlock][kPanel], power[kGroups][kBlock][kPanel];
};

template <class T, class P>
inline T load(const P* p) {
    T t;
    std::memcpy(&t, p, sizeof t);
    return t;
}

// Loads that are used several times: left to itself GCC makes each use a load of its own, and loads are what is short.
inline F load_once(const float* p) {
    F f = load<F>(p);
#ifdef __AVX512F__
    asm("" : "+v"(f));
#endif
    return f;
}

// The largest exponents of a group, of two vectors of columns.
inline void largest_exponents(const Operands& p, long k, int column, S (&largest)[kBlock]) {
    for (S& x : largest) x = S{} + (int16_t)kAbsent;
    const uint32_t *a = p.exponent_a + (k * kPanel + column) / 2, *b = p.exponent_b + k * kBlock;
#pragma GCC unroll 2
    for (int i = 0; i < kGroup; ++i) {
        const S of_a = load<S>(a + i * kPanel / 2);
        for (int r = 0; r < kBlock; ++r) {
            const S sum = of_a + (S)(W{} + b[i * kBlock + r]);
            largest[r] = sum > largest[r] ? sum : largest[r];
        }
    }
}

// The magic numbers of a group of two vectors of columns: of its largest exponents' grids.
inline void group_magic(const Operands& p, long k, int column, F (&magic)[kBlock][2]) {
    S largest[kBlock];
    largest_exponents(p, k, column, largest);
    for (int r = 0; r < kBlock; ++r) {
        const W both = (W)(largest[r] << 7);
        magic[r][0] = (F)((both << 16) + (uint32_t)kMagic);
        magic[r][1] = (F)((both & 0xFFFF0000u) + (uint32_t)kMagic);
    }
}

// The sums of a group in one or two phases that have a slice of in0 in common, each with `nudge` added.
template <int Slices, int A, int B, bool Nudged>
inline void sum_slices(const float* a, const float* b, const F (&magic)[kBlock][2], float* out) {
    constexpr long next_phase = sizeof(Sums::total[0]) / sizeof(float);
    F sum[Slices][kBlock][2];
    for (auto& slice : sum)
        for (int r = 0; r < kBlock; ++r)
            for (int v = 0; v < 2; ++v) slice[r][v] = magic[r][v];
#pragma GCC unroll 4
    for (int i = 0; i < kGroup; ++i) {
        F of_a[Slices][2];
        for (int s = 0; s < Slices; ++s)
            for (int v = 0; v < 2; ++v) of_a[s][v] = load_once(a + (i * A + s) * kPanel + v * kLanes);
        for (int r = 0; r < kBlock; ++r) {
            const F of_b = (F)lanes::constant(b[i * B * kBlock + r]);
            for (int s = 0; s < Slices; ++s)
                for (int v = 0; v < 2; ++v) sum[s][r][v] += of_a[s][v] * of_b;
        }
    }
    for (int s = 0; s < Slices; ++s)
        for (int r = 0; r < kBlock; ++r)
            for (int v = 0; v < 2; ++v) {
                F total = sum[s][r][v] - magic[r][v];
                if (Nudged) total += magic[r][v] * kHalvesUp;
                lanes::store(out + s * next_phase + r * kPanel + v * kLanes, (W)total);
            }
}

// The sums of the first `Phases` phases; a row of k has A slices of in1 and B of in0.
template <int Phases, int A, int B, bool Nudged>
void sum_tile(const Operands& p, long tile, Sums& sums) {
    for (int group = 0; group < kGroups; ++group) {
        const long k = tile + group * kGroup;
        for (int column = 0; column < kPanel; column += 2 * kLanes) {
            F magic[kBlock][2];
            group_magic(p, k, column, magic);
            for (int r = 0; r < kBlock; ++r)
                for (int v = 0; v < 2; ++v)
                    lanes::store(&sums.power[group][r][column + v * kLanes], (W)magic[r][v] - (uint32_t)kMagic);
            const float *a = p.a + k * A * kPanel + column, *b = p.b + k * B * kBlock;
            sum_slices<Phases < 2 ? 1 : 2, A, B, Nudged>(a, b, magic, &sums.total[0][group][0][column]);
            if constexpr (Phases > 2)
                sum_slices<Phases - 2, A, B, Nudged>(a, b + kBlock, magic, &sums.total[2][group][0][column]);
        }
    }
}

}  // namespace groups
