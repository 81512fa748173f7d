// A product of bfloat16 operands for mode fast, on AMX tiles.
// Each element is one float32 sum in the order of k, whatever the other rows and columns: a row has the same bits alone, in a
// batch and in a longer prompt, and a column on whichever device it lies.

#include <algorithm>
#include <cstring>
#include <vector>

#include "panels.h"
#include "parallel.h"
#include "tiles.h"

extern "C" {

// in0 [m][k] and out [m][n], bfloat16 or float32 (not `narrow`), lie row by row; in1 [k][n] by its strides, in elements.
struct Bf16Product {
    const uint16_t *in0, *in1;
    void* out;
    int64_t m, k, n, k_stride, n_stride;
    int32_t narrow, threads;
};

}  // extern "C"

#ifdef __AMX_BF16__
namespace {

constexpr long kBlock = 32;    // rows of a block: two tiles
constexpr long kChunk = 1024;  // rows that one thread takes at a time

// rows [kBlock][k], `stride` elements apart, times a panel of pairs -> out [kBlock][kPanel].
void multiply(const uint16_t* rows, long stride, const uint32_t* panel, long k, float* out) {
    const uint16_t* lower = rows + kBlock / 2 * stride;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (long i = 0; i < k; i += 32) {
        _tile_loadd(4, rows + i, stride * 2);
        _tile_loadd(6, panel + i / 2 * kPanel, kPanel * 4);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, panel + i / 2 * kPanel + kPanel / 2, kPanel * 4);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, lower + i, stride * 2);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, out, kPanel * 4);
    _tile_stored(1, out + kPanel / 2, kPanel * 4);
    _tile_stored(2, out + kBlock / 2 * kPanel, kPanel * 4);
    _tile_stored(3, out + kBlock / 2 * kPanel + kPanel / 2, kPanel * 4);
}

// To bfloat16, half to even.
void narrow(const float* from, long count, uint16_t* to) {
    for (long i = 0; i < count; ++i) {
        uint32_t w;
        std::memcpy(&w, from + i, sizeof w);
        const uint32_t quiet = (w >> 16) | 0x40;
        to[i] = (w & 0x7FFFFFFFu) > 0x7F800000u ? quiet : (w + 0x7FFFu + (w >> 16 & 1)) >> 16;
    }
}

void store(const Bf16Product& p, const float* block, long first_row, long rows, long first_column) {
    const long columns = std::min<long>(kPanel, p.n - first_column);
    for (long r = 0; r < rows; ++r, block += kPanel) {
        const long at = (first_row + r) * p.n + first_column;
        if (p.narrow)
            narrow(block, columns, static_cast<uint16_t*>(p.out) + at);
        else
            std::memcpy(static_cast<float*>(p.out) + at, block, sizeof(float) * columns);
    }
}

// Rows [first, first + count) with zeros after the last row and the last k: [kBlock][k].
void pad(const Bf16Product& p, long first, long count, long k, uint16_t* to) {
    std::fill(to, to + kBlock * k, 0);
    for (long r = 0; r < count; ++r) std::memcpy(to + r * k, p.in0 + (first + r) * p.k, sizeof(uint16_t) * p.k);
}

}  // namespace

extern "C" int bf16_product_allowed() { return tiles::allowed(); }

extern "C" void bf16_product(const Bf16Product* call) {
    const Bf16Product& p = *call;
    const long panels = (p.n + kPanel - 1) / kPanel, chunks = (p.m + kChunk - 1) / kChunk;
    const long k = (p.k + kTile - 1) / kTile * kTile;
    parallel_for(p.threads, chunks * panels, [&](long item) {
        static thread_local std::vector<uint32_t> panel;
        static thread_local std::vector<uint16_t> padded;
        alignas(64) float block[kBlock * kPanel];
        const Matrix in1{p.in1, false, p.k, p.n, p.k_stride, p.n_stride};
        const tiles::Tiles shapes;
        panel.resize(in1.panel_words());
        padded.resize(kBlock * k);
        in1.lay_out(item % panels, panel.data());
        const long top = item / panels * kChunk, bottom = std::min(p.m, top + kChunk);
        for (long row = top; row < bottom; row += kBlock) {
            const long rows = std::min(kBlock, bottom - row);
            const bool whole = rows == kBlock && k == p.k;
            if (!whole) pad(p, row, rows, k, padded.data());
            multiply(whole ? p.in0 + row * p.k : padded.data(), k, panel.data(), k, block);
            store(p, block, row, rows, item % panels * kPanel);
        }
    });
}
#else
extern "C" int bf16_product_allowed() { return 0; }
extern "C" void bf16_product(const Bf16Product*) {}
#endif
