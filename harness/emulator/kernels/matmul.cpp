// Matmul as the matrix unit accumulates it: takes the operands apart, shares panels of the result out to threads, and puts
// partial sums away between K blocks.

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "device.h"
#include "exact.h"
#include "lanes.h"
#include "parallel.h"
#include "partials.h"

extern "C" {

// in0 [batch][m][k] and dest [batch][m][n] lie row by row, in1 [batch][k][n] with any strides, in elements (a batch stride
// of 0: all use the same). A wide operand is float32 holding TF32, another is bfloat16.
struct Product {
    const void *in0, *in1;
    float* dest;
    int64_t batch, m, k, n;
    int64_t in1_stride[3];   // of batch, k and n
    int64_t block;           // k of a K block
    int32_t in0_wide, in1_wide;
    int32_t phases, fp32_dest;
    int32_t exact;           // mode EXACT, else DEVICE: of a 32-bit Dest
    int32_t partial;         // format of partial sums, a DataType
    int32_t l1_acc;          // blocks are added up in L1
    int32_t partial_result;  // the last block too leaves Dest as a partial sum
    int32_t onto_dest;       // goes on from what dest holds, else from zero
    int32_t threads;
};

}  // extern "C"

namespace {

constexpr long round_up(long x, long to) { return (x + to - 1) / to * to; }

inline float as_float(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// Whether the arithmetic in floating point is right for these operands and this Dest: nothing comes near the smallest
// exponent, the last phase's products 12 below the first's, nor the largest, where Inf is an ordinary number.
inline bool ordinary(Range in0, Range in1, Range dest) {
    constexpr int least = 30, most = 200;
    return in0.least() + in1.least() - 127 - 12 >= least && in0.most() + in1.most() - 127 <= most && dest.least() >= least &&
           dest.most() <= most;
}

// in0 taken apart, each row padded to whole tiles of k.
struct Rows {
    long stride;  // from one row to the next, in k
    std::vector<float> part[2];
    std::vector<uint32_t> exponent;
    std::vector<Range> range;  // of each row
};

// Rows taken apart for the arithmetic in integers.
struct IntegerRows {
    std::vector<int16_t> exponent, slice[2];
};

// One row's Src values as float32 bits; the matrix unit takes a denormal for zero.
void read_row(const Product& p, long row, std::vector<uint32_t>& bits) {
    if (p.in0_wide) {
        std::memcpy(bits.data(), static_cast<const uint32_t*>(p.in0) + row * p.k, p.k * sizeof(uint32_t));
    } else {
        const uint16_t* values = static_cast<const uint16_t*>(p.in0) + row * p.k;
        for (long k = 0; k < p.k; ++k) bits[k] = (uint32_t)values[k] << 16;
    }
    for (long k = 0; k < p.k; ++k) bits[k] = bits[k] & lanes::kInf ? bits[k] : 0;
}

// A Src value's exponent for the first phase: less its bias, in both halves of a word.
inline uint32_t exponent_of(uint32_t bits) {
    const int exponent = (bits & lanes::kInf ? (int)(bits >> 23 & 255) : kNoExponent) - 127;
    return (exponent & 0xFFFF) * 0x10001u;
}

void take_row_apart(const Product& p, long row, std::vector<uint32_t>& bits, Rows& rows) {
    read_row(p, row, bits);
    const long at = row * rows.stride;
    Range range;
    for (long k = 0; k < rows.stride; ++k) {
        const float high = as_float(bits[k] & kSideB.high);
        rows.part[0][at + k] = high;
        if (p.phases > 2) rows.part[1][at + k] = as_float(bits[k] & kSideB.all) - high;
        rows.exponent[at + k] = exponent_of(bits[k]);
        range.add(bits[k]);
    }
    rows.range[row] = range;
}

// Takes all of in0 apart.
void take_apart(const Product& p, Rows& rows) {
    const long count = p.batch * p.m, size = count * rows.stride;
    rows.part[0].resize(size);
    if (p.phases > 2) rows.part[1].resize(size);
    rows.exponent.resize(size);
    rows.range.resize(count);
    const long chunk = 16;
    parallel_for(p.threads, (count + chunk - 1) / chunk, [&](long item) {
        std::vector<uint32_t> bits(rows.stride);
        for (long row = item * chunk; row < std::min(count, (item + 1) * chunk); ++row) take_row_apart(p, row, bits, rows);
    });
}

// What a thread needs for one panel.
struct Workspace {
    std::vector<uint32_t> panel;
    std::vector<uint32_t> exponent;
    std::vector<float> part[2];
    IntegerRows integers;
    alignas(64) float dest[kRows * kPanel], stored[kRows * kPanel];
};

// The matrix unit takes a denormal for zero.
void flush_denormals(std::vector<uint32_t>& panel, bool wide) {
    if (wide)
        for (uint32_t& bits : panel) bits = bits & lanes::kInf ? bits : 0;
    else
        for (uint32_t& pair : panel)
            pair = (pair & 0x7F80u ? pair & 0xFFFFu : 0) | (pair & lanes::kInf ? pair & 0xFFFF0000u : 0);
}

// Returns the range of the panel's exponents.
Range take_panel_apart(const uint32_t* panel, const Product& p, long k, Workspace& work) {
    work.exponent.resize(k * kPanel / 2);
    for (int part = 0; part < std::min(p.phases, 2); ++part) work.part[part].resize(k * kPanel);
    return device_take_apart_a(panel, p.in1_wide, k, {work.part[0].data(), p.phases > 1 ? work.part[1].data() : nullptr},
                               work.exponent.data());
}

class Matmul {
   public:
    Matmul(const Product& p, Rows& rows) : p_(p), k_(round_up(p.k, kTile)), rows_(rows) {
        rows_.stride = k_;
        take_apart(p_, rows_);
        block_ = std::min(round_up(p.block, kTile), k_);
        blocks_ = (k_ + block_ - 1) / block_;
        in_l1_ = p.l1_acc && blocks_ > (p.partial_result ? 1 : 2);
    }

    long run() {
        const long panels = round_up(p_.n, kPanel) / kPanel, products = p_.batch * panels;
        // Enough items that no thread waits long for the last one.
        const long chunks = (p_.m + kRows - 1) / kRows;
        const long shares = std::min<long>(chunks, std::max<long>(1, 4 * p_.threads / products));
        const long chunks_each = (chunks + shares - 1) / shares;
        std::vector<long> struck(products * shares);
        parallel_for(p_.threads, products * shares, [&](long item) {
            const long product = item / shares, first = item % shares * chunks_each * kRows;
            struck[item] = panel(product / panels, product % panels, first,
                                 std::min<long>(p_.m, first + chunks_each * kRows));
        });
        long total = 0;
        for (long count : struck) total += count;
        return total;
    }

   private:
    Matrix in1(long batch) const {
        const auto [batch_stride, k_stride, n_stride] = p_.in1_stride;
        const char* data = static_cast<const char*>(p_.in1) + batch * batch_stride * (p_.in1_wide ? 4 : 2);
        return {data, p_.in1_wide != 0, p_.k, p_.n, k_stride, n_stride};
    }

    // Rows [first, last) of one panel of the result.
    long panel(long batch, long index, long first, long last) const {
        static thread_local Workspace work;
        const Matrix matrix = in1(batch);
        work.panel.resize(matrix.panel_words());
        matrix.lay_out(index, work.panel.data());
        flush_denormals(work.panel, matrix.wide);
        const uint32_t* panel = work.panel.data();
        const Range range = take_panel_apart(panel, p_, k_, work);
        const long width = std::min<long>(kPanel, p_.n - index * kPanel);
        long struck = 0;
        for (long row = first; row < last; row += kRows) {
            const long rows = std::min<long>(kRows, last - row), at = batch * p_.m + row;
            float* dest = p_.dest + at * p_.n + index * kPanel;
            std::memset(work.dest, 0, rows * kPanel * sizeof(float));
            if (p_.onto_dest)
                for (long r = 0; r < rows; ++r)
                    for (long n = 0; n < width; ++n)
                        work.dest[r * kPanel + n] = lanes::bits(dest[r * p_.n + n]) & lanes::kInf ? dest[r * p_.n + n] : 0;
            const bool integers = !ordinary(range_of(at, rows), range, range_of_dest(work.dest, rows));
            if (integers) take_apart_in_integers(at, rows, work.integers);
            for (long block = 0; block < blocks_; ++block) {
                const long end = std::min<long>(k_, (block + 1) * block_);
                for (long k = block * block_; k < end; k += kSpan)
                    struck += accumulate(work, rows, at, panel, k, std::min<long>(end, k + kSpan), integers);
                put_away(work, rows, block);
            }
            for (long r = 0; r < rows; ++r)
                std::memcpy(dest + r * p_.n, work.dest + r * kPanel, width * sizeof(float));
        }
        return struck;
    }

    Range range_of(long at, long rows) const {
        Range range;
        for (long r = 0; r < rows; ++r) range.add(rows_.range[at + r]);
        return range;
    }

    static Range range_of_dest(const float* dest, long rows) {
        Range range;
        for (long i = 0; i < rows * kPanel; ++i) range.add(lanes::bits(dest[i]));
        return range;
    }

    void take_apart_in_integers(long at, long rows, IntegerRows& out) const {
        for (auto* part : {&out.exponent, &out.slice[0], &out.slice[1]}) part->resize(rows * k_);
        std::vector<uint32_t> bits(k_);
        for (long r = 0; r < rows; ++r) {
            read_row(p_, at + r, bits);
            exact_take_apart_b(bits.data(), k_, &out.exponent[r * k_], &out.slice[0][r * k_], &out.slice[1][r * k_]);
        }
    }

    long accumulate(Workspace& work, long rows, long at, const uint32_t* panel, long first, long last, bool integers) const {
        if (integers) {
            const auto& [exponent, slice] = work.integers;
            const ExactRows b{exponent.data(), {slice[0].data(), slice[1].data()}, k_};
            return exact_accumulate(work.dest, rows, b, panel, p_.in1_wide, first, last, p_.phases, p_.fp32_dest);
        }
        const long offset = at * k_;
        const Phases phases{p_.phases,
                            {work.part[0].data(), work.part[1].data()},
                            work.exponent.data(),
                            panel,
                            p_.in1_wide != 0,
                            {&rows_.part[0][offset], p_.phases > 2 ? &rows_.part[1][offset] : nullptr},
                            &rows_.exponent[offset]};
        return device_accumulate(work.dest, rows, phases, k_, first, last, p_.fp32_dest, p_.exact);
    }

    // After a K block: leaves in work.dest what the next one, or the caller, finds in Dest.
    void put_away(Workspace& work, long rows, long block) const {
        const bool last = block == blocks_ - 1, kept = last && !p_.partial_result;
        const auto format = static_cast<partials::Format>(p_.partial);
        if (kept || (!in_l1_ && (format == partials::kFp32 || (format == partials::kBf16 && !p_.fp32_dest)))) return;
        // With sums in L1 the next block starts from zero, unless it is the last and stays in Dest.
        const bool reloads = !in_l1_ || last || (block == blocks_ - 2 && !p_.partial_result);
        for (long at = 0; at < rows * kPanel; at += 16) {
            lanes::W group[partials::kGroupVectors];
            std::memcpy(group, work.dest + at, sizeof group);
            if (!in_l1_ || block == 0) partials::reload(group, format);
            for (int v = 0; v < partials::kGroupVectors; ++v) {
                const long i = at + v * lanes::kLanes;
                if (in_l1_ && block > 0) group[v] = partials::added(lanes::load(work.stored + i), group[v], format);
                if (in_l1_) lanes::store(work.stored + i, group[v]);
                lanes::store(work.dest + i, reloads ? group[v] : lanes::W{});
            }
        }
    }

    Product p_;
    long k_, block_, blocks_;
    bool in_l1_;
    Rows& rows_;
};

}  // namespace

// Returns how often the fp32 Dest erratum struck (0 in mode DEVICE, which does not model it).
extern "C" int64_t tt_matmul(const Product* product) {
    static thread_local Rows rows;  // kept: fresh memory would cost a tenth of a large product
    return Matmul(*product, rows).run();
}
