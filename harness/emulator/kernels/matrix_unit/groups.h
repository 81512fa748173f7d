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

constexpr int kGroups = kTile / kGroup;

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

// Of a K tile, a block of rows and two vectors of columns: the sums [phase][group][row][vector], the later phases' scaled up by
// kLower, and a group's largest exponent in the first phase, as a power of two.
struct Sums {
    F total[4][kGroups][kBlock][2];
    W power[kGroups][kBlock][2];
};

// Rows whose sums of one or two slices of two vectors the registers hold.
#ifdef __AVX512F__
constexpr int rows_held(int) { return 4; }
#else
constexpr int rows_held(int slices) { return slices > 1 ? 2 : 4; }
#endif

template <class T, class P>
inline T load(const P* p) {
    T t;
    std::memcpy(&t, p, sizeof t);
    return t;
}

// Loads that are used several times: left to itself GCC makes each use a load of its own, and loads are what is short.
inline F load_once(const float* p) {
    F f = load<F>(p);
#if defined(__AVX512F__)
    asm("" : "+v"(f));
#elif defined(__x86_64__)
    asm("" : "+x"(f));
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

// The sums of a group in one or two phases that have a slice of in0 in common, each nudged so that its halves go up on any
// coarser grid.
template <int Phase, int Slices, int A, int B, bool Nudged>
inline void sum_slices(const float* a, const float* b, const F (&magic)[kBlock][2], int group, Sums& sums) {
    constexpr int kHeld = rows_held(Slices);
    for (int first = 0; first < kBlock; first += kHeld) {
        F sum[Slices][kHeld][2];
        for (auto& slice : sum) std::memcpy(slice, magic[first], sizeof slice);
#pragma GCC unroll 8
        for (int i = 0; i < kGroup; ++i) {
            F of_a[Slices][2];
            for (int s = 0; s < Slices; ++s)
                for (int v = 0; v < 2; ++v) of_a[s][v] = load_once(a + (i * A + s) * kPanel + v * kLanes);
            for (int r = 0; r < kHeld; ++r) {
                const F of_b = (F)lanes::constant(b[i * B * kBlock + first + r]);
                for (int s = 0; s < Slices; ++s)
                    for (int v = 0; v < 2; ++v) sum[s][r][v] += of_a[s][v] * of_b;
            }
        }
        for (int s = 0; s < Slices; ++s)
            for (int r = 0; r < kHeld; ++r)
                for (int v = 0; v < 2; ++v) {
                    const F grid = magic[first + r][v], total = sum[s][r][v] - grid;
                    sums.total[Phase + s][group][first + r][v] = Nudged ? total + grid * kHalvesUp : total;
                }
    }
}

// The sums of the first `Phases` phases at two vectors of columns; a row of k has A slices of in1 and B of in0.
template <int Phases, int A, int B, bool Nudged>
inline void sum_tile(const Operands& p, long tile, int column, Sums& sums) {
    for (int group = 0; group < kGroups; ++group) {
        const long k = tile + group * kGroup;
        F magic[kBlock][2];
        group_magic(p, k, column, magic);
        for (int r = 0; r < kBlock; ++r)
            for (int v = 0; v < 2; ++v) sums.power[group][r][v] = (W)magic[r][v] - (uint32_t)kMagic;
        const float *a = p.a + k * A * kPanel + column, *b = p.b + k * B * kBlock;
        sum_slices<0, Phases < 2 ? 1 : 2, A, B, Nudged>(a, b, magic, group, sums);
        if constexpr (Phases > 2) sum_slices<2, Phases - 2, A, B, Nudged>(a, b + kBlock, magic, group, sums);
    }
}

}  // namespace groups
