// Dest added up loosely, on AMX tiles: the sums of loose.h, a group's eight products in the order in which a tile adds them.
#pragma once

#include <cstdint>
#include <vector>

#include "device.h"

// Whether operands, bfloat16 both, and this Dest are multiplied on tiles.
bool tiles_multiply(Dest dest);

// What the tiles read. Slices are bfloat16, as they are, not scaled: of in0 b[slice] [row][k], of in1 a[slice] [pair of k][column].
// A slice that no phase wants is absent.
struct TileOperands {
    const uint16_t* b[2];
    const uint32_t* a[2];
    long k;
};

// Takes a panel of `k` rows apart. Returns the range of its exponents.
Range tiles_take_apart_a(const uint32_t* panel, long k, Dest dest, int phases, std::vector<uint32_t> (&a)[2]);

// Takes `k` values of a row apart, to b[slice]. Returns the range of their exponents.
Range tiles_take_apart_b(const uint16_t* row, long k, Dest dest, int phases, uint16_t* const (&b)[2]);

// Accumulates k [first, last) (whole tiles) onto values [rows][kPanel], rows a multiple of 16.
void tiles_accumulate(float* values, long rows, const TileOperands& operands, long first, long last, Dest dest, int phases);
