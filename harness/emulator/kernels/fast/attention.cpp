// Softmax attention of mode fast, on float32 units: products of bfloat16 operands are summed in float32; scores, weights and
// results are rounded to bfloat16, half to even.

// Products of bfloat16 numbers are exact in float32, so whether they are fused with a sum does not matter: let them be.
#if defined(__clang__)
#pragma clang fp contract(fast)
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=fast")
#endif

#include <algorithm>
#include <cmath>
#include <vector>

#include "block_product.h"
#include "parallel.h"

extern "C" {

// queries and out [batch][heads][rows][width], keys and values [batch][kv_heads][span][width], row by row, bfloat16. With `pages`
// keys and values are pages [page][width], and [batch][kv_heads][span / page] numbers say where each lies. `mask` is added to [batch][heads][rows][span] of scores, by its strides; null: none. `causal`: row r sees keys 0..r.
struct Attention {
    const uint16_t *queries, *keys, *values, *mask;
    uint16_t* out;
    int64_t batch, heads, kv_heads, rows, span, width;
    int64_t mask_stride[4];
    const int64_t* pages;
    int64_t page;  // positions of one; without pages, of all
    float scale;
    int32_t causal, threads;
};

}  // extern "C"

namespace {

using namespace block_product;

constexpr long kChunk = 128;           // rows of a head that one thread takes at a time

constexpr long padded(long x) { return (x + kColumns - 1) / kColumns * kColumns; }

// e^x for x <= 0, to 2 units of the last place; 0 below -87, where float32 has no normal number. NaN stays.
inline F exponential(F x) {
    // 2^n * e^r with |r| <= ln 2 / 2, ln 2 in two parts so that r is exact; e^r by its Taylor series.
    constexpr float kLog2E = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
    constexpr float kToInteger = 3 << 22;  // added, it leaves a float no bits below 1
    const F limited = x < -87.0f ? F{} - 87.0f : x;
    const F n = (limited * kLog2E + kToInteger) - kToInteger;
    const F r = (limited - n * kLn2High) - n * kLn2Low;
    F sum = F{} + 1.0f / 5040;
    for (const float factor : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) sum = sum * r + factor;
    const W power = (W)__builtin_convertvector(n + 127.0f, I) << 23;
    return x < -87.0f ? F{} : sum * (F)power;
}

struct Workspace {
    std::vector<float> keys, values, queries, scores;
    std::vector<uint32_t> pairs;
};

// One chunk of rows of all heads that share keys and values.
class Chunk {
   public:
    Chunk(const Attention& a, Workspace& work, long batch, long kv_head, long first)
        : a_(a), work_(work), batch_(batch), kv_head_(kv_head), first_(first), last_(std::min(a.rows, first + kChunk)),
          seen_(a.causal ? std::min(a.span, last_) : a.span), wide_(padded(a.width)) {
        lay_out_keys();
        lay_out_values();
        work.queries.resize(kRows * a.width);
        work.scores.resize(kRows * padded(seen_));
    }

    void run() const {
        const long group = a_.heads / a_.kv_heads;
        for (long head = kv_head_ * group; head < (kv_head_ + 1) * group; ++head)
            for (long row = first_; row < last_; row += kRows) rows(head, row, std::min(last_, row + kRows));
    }

   private:
    // Calls body(position, row) for the keys, or values, of what is seen.
    template <class Body>
    void for_seen(const uint16_t* cache, const Body& body) const {
        const long head = batch_ * a_.kv_heads + kv_head_, each = a_.span / a_.page;
        for (long first = 0; first < seen_; first += a_.page) {
            const long page = a_.pages ? a_.pages[head * each + first / a_.page] : head;
            const uint16_t* row = cache + page * a_.page * a_.width;
            for (long key = first; key < std::min(seen_, first + a_.page); ++key, row += a_.width) body(key, row);
        }
    }

    // [block of kColumns keys][width][key]: first as words of two values, then these are taken apart.
    void lay_out_keys() const {
        const long pairs = (a_.width + 1) / 2, block = pairs * kColumns, blocks = padded(seen_) / kColumns;
        work_.pairs.resize(blocks * block);
        work_.keys.resize(padded(seen_) * a_.width);
        std::fill(work_.pairs.end() - block, work_.pairs.end(), 0);
        uint32_t* words = work_.pairs.data();
        for_seen(a_.keys, [&](long key, const uint16_t* row) {
            uint32_t* to = words + key / kColumns * block + key % kColumns;
            long d = 0;
            for (; d + 1 < a_.width; d += 2, to += kColumns) std::memcpy(to, row + d, sizeof *to);
            if (d < a_.width) *to = row[d];
        });
        for (long of = 0; of < blocks; ++of)
            for (long d = 0; d < a_.width; ++d)
                for (long n = 0; n < kColumns; n += kLanes) {
                    const W pair = (W)load(reinterpret_cast<const float*>(words + of * block + d / 2 * kColumns + n));
                    lanes::store(work_.keys.data() + (of * a_.width + d) * kColumns + n, d % 2 ? pair & 0xFFFF0000u : pair << 16);
                }
    }

    // [key][wide]
    void lay_out_values() const {
        work_.values.resize(seen_ * wide_);
        float* values = work_.values.data();
        for_seen(a_.values, [&](long key, const uint16_t* row) {
            for (long d = 0; d < wide_; d += kLanes)
                lanes::store(values + key * wide_ + d, d < a_.width ? lanes::some(row + d, a_.width - d) : W{});
        });
    }

    // Rows [first, last), at most kRows; a short block repeats its last row.
    void rows(long head, long first, long last) const {
        const long at = (batch_ * a_.heads + head) * a_.rows, stride = padded(seen_);
        const float *queries[kRows], *weights[kRows];
        for (int r = 0; r < kRows; ++r) {
            const long row = std::min(first + r, last - 1);
            float* query = work_.queries.data() + r * a_.width;
            for (long d = 0; d < a_.width; ++d) query[d] = as_float(a_.queries[(at + row) * a_.width + d]);
            queries[r] = query;
            weights[r] = work_.scores.data() + r * stride;
        }
        const long keys = a_.causal ? std::min(a_.span, last) : a_.span;
        for (long key = 0; key < keys; key += kColumns) {
            F sum[kRows][2] = {};
            add_product(queries, work_.keys.data() + key * a_.width, kColumns, a_.width, sum);
            for (int r = 0; r < kRows; ++r)
                for (int v = 0; v < 2; ++v)
                    store(work_.scores.data() + r * stride + key + v * kLanes, rounded(sum[r][v] * a_.scale));
        }
        for (long row = first; row < last; ++row)
            softmax(work_.scores.data() + (row - first) * stride, head, row, keys);
        for (long column = 0; column < a_.width; column += kColumns) {
            F sum[kRows][2] = {};
            add_product(weights, work_.values.data() + column, wide_, keys, sum);
            for (long row = first; row < last; ++row) {
                alignas(64) uint16_t result[kColumns];
                for (int v = 0; v < 2; ++v) lanes::store(result + v * kLanes, (W)rounded(sum[row - first][v]));
                std::memcpy(a_.out + (at + row) * a_.width + column, result,
                            sizeof(uint16_t) * std::min(kColumns, a_.width - column));
            }
        }
    }

    // In place, of a row's first `keys` scores; what the row does not see gets no weight.
    void softmax(float* scores, long head, long row, long keys) const {
        const auto [of_batch, of_head, of_row, of_key] = a_.mask_stride;
        const long seen = a_.causal ? std::min(keys, row + 1) : keys;
        if (a_.mask) {
            const uint16_t* mask = a_.mask + batch_ * of_batch + head * of_head + row * of_row;
            for (long key = 0; key < seen; ++key) scores[key] += as_float(mask[key * of_key]);
        }
        for (long key = seen; key < padded(keys); ++key) scores[key] = -INFINITY;
        F most = F{} - INFINITY;
        for (long key = 0; key < keys; key += kLanes) {
            F score = load(scores + key);
            if (a_.mask) store(scores + key, score = rounded(score));
            most = score > most ? score : most;
        }
        float largest = -INFINITY, total = 0;
        for (int i = 0; i < kLanes; ++i) largest = std::max(largest, most[i]);
        F sum{};
        for (long key = 0; key < keys; key += kLanes) {
            const F weight = exponential(load(scores + key) - largest);
            store(scores + key, weight);
            sum += weight;
        }
        for (int i = 0; i < kLanes; ++i) total += sum[i];
        for (long key = 0; key < keys; key += kLanes) store(scores + key, rounded(load(scores + key) / total));
    }

    const Attention& a_;
    Workspace& work_;
    long batch_, kv_head_, first_, last_, seen_, wide_;
};

}  // namespace

extern "C" void attention(const Attention* call) {
    const long chunks = (call->rows + kChunk - 1) / kChunk;
    parallel_for(call->threads, call->batch * call->kv_heads * chunks, [&](long item) {
        static thread_local Workspace work;
        const long chunk = chunks - 1 - item % chunks, head = item / chunks;  // under a causal mask the last take longest
        Chunk(*call, work, head / call->kv_heads, head % call->kv_heads, chunk * kChunk).run();
    });
}
