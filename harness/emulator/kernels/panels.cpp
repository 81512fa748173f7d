// Lays a bfloat16 in1 out as the panels of panels.h, from any strides: a transposed view needs no copy first.

#include "panels.h"

#include <algorithm>

#include "parallel.h"

namespace {

struct Matrix {  // [batch][k][n]; strides in elements
    const uint16_t* data;
    int64_t k, n, batch_stride, k_stride, n_stride;
};

// Columns [column, column + count) of rows k and k + 1, a word each.
void pair_of_rows(const Matrix& m, const uint16_t* from, bool odd, long count, uint32_t* to) {
    if (m.n_stride == 1) {
        for (long c = 0; c < count; ++c) to[c] = from[c] | (odd ? uint32_t(from[m.k_stride + c]) << 16 : 0);
    } else {
        for (long c = 0; c < count; ++c) {
            const uint16_t* at = from + c * m.n_stride;
            to[c] = at[0] | (odd ? uint32_t(at[m.k_stride]) << 16 : 0);
        }
    }
}

}  // namespace

extern "C" {

struct PanelCall {
    const void* data;
    int64_t batch, k, n, batch_stride, k_stride, n_stride;
    void* out;  // [batch][panels][pairs][32] words, k and n padded to whole tiles with zeros
    int32_t threads;
};

void tt_panels(const PanelCall* call) {
    const Matrix m{static_cast<const uint16_t*>(call->data), call->k, call->n, call->batch_stride, call->k_stride,
                   call->n_stride};
    const long panels = (m.n + kPanel - 1) / kPanel, pairs = (m.k + kTile - 1) / kTile * (kTile / 2);
    uint32_t* out = static_cast<uint32_t*>(call->out);
    parallel_for(call->threads, call->batch * panels, [&](long item) {
        const long panel = item % panels, columns = std::min<long>(kPanel, m.n - panel * kPanel);
        const uint16_t* from = m.data + item / panels * m.batch_stride + panel * kPanel * m.n_stride;
        uint32_t* to = out + item * pairs * kPanel;
        std::fill(to, to + pairs * kPanel, 0);
        for (long k = 0; k < m.k; k += 2, from += 2 * m.k_stride, to += kPanel) {
            pair_of_rows(m, from, k + 1 < m.k, columns, to);
        }
    });
}
}
