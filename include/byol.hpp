/*
 * libbyol for C++11 and later: one header over byol.h, which documents what each call does, its limits and its errors.
 *
 * - Handles are move-only objects that close themselves: byol::runtime, encoder, head, features, trainer, cancel.
 * - What can fail returns a byol::result<T>: test it, then use `*r`, `r->` or `r.error()`. Nothing is thrown by that.
 *   `r.value()` is for programs that like exceptions: it throws byol::failure. Without exceptions in the compiler (or with
 *   BYOL_NO_EXCEPTIONS defined) it ends the program with std::terminate, as std::expected's would.
 * - Arrays go in and out as byol::span, which is std::span where the standard has it.
 * - Options and reports are byol.h's own structs; byol::make<byol_fit_options>() gives one with the defaults.
 * - std::bad_alloc can come from the vectors and strings that are returned, and from nothing else.
 *
 *   auto encoder = byol::encoder::open(byol::source::file("encoder.onnx"));
 *   if (!encoder) { std::cerr << encoder.error().message() << '\n'; return 1; }
 *   auto features = encoder->extract_files({"cat.jpg", "dog.jpg"});
 */
#ifndef BYOL_HPP
#define BYOL_HPP

#include <byol.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__cplusplus) && __cplusplus >= 202002L
#include <version>
#if defined(__cpp_lib_span) && __cpp_lib_span >= 202002L
#include <span>
#define BYOL_HPP_STD_SPAN 1
#endif
#endif

#if !defined(BYOL_NO_EXCEPTIONS) && (defined(__cpp_exceptions) || defined(__EXCEPTIONS) || defined(_CPPUNWIND))
#define BYOL_HPP_EXCEPTIONS 1
#endif

#if defined(__cplusplus) && __cplusplus >= 201703L
#define BYOL_HPP_NODISCARD [[nodiscard]]
#else
#define BYOL_HPP_NODISCARD
#endif

namespace byol {

#ifdef BYOL_HPP_STD_SPAN
template <class T> using span = std::span<T>;
#else
/** So much of std::span as this header needs. */
template <class T> class span {
public:
    span() noexcept : data_(nullptr), size_(0) {}
    span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
    template <std::size_t N> span(T (&array)[N]) noexcept : data_(array), size_(N) {}
    /** Of a vector, an array, a string: whatever has data() and size(). */
    template <class C, class = typename std::enable_if<
                           std::is_convertible<decltype(std::declval<C &>().data()), T *>::value &&
                           std::is_convertible<decltype(std::declval<C &>().size()), std::size_t>::value>::type>
    span(C &&container) noexcept : data_(container.data()), size_(container.size()) {}
    T *data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }
    T *begin() const noexcept { return data_; }
    T *end() const noexcept { return data_ + size_; }
    T &operator[](std::size_t i) const noexcept { return data_[i]; }

private:
    T *data_;
    std::size_t size_;
};
#endif

/** Which init function belongs to which struct. */
namespace detail {
inline void init(byol_error *s) noexcept { byol_error_init(s, sizeof *s); }
inline void init(byol_runtime_options *s) noexcept { byol_runtime_options_init(s, sizeof *s); }
inline void init(byol_source *s) noexcept { byol_source_init(s, sizeof *s); }
inline void init(byol_model_info *s) noexcept { byol_model_info_init(s, sizeof *s); }
inline void init(byol_contract *s) noexcept { byol_contract_init(s, sizeof *s); }
inline void init(byol_encoder_options *s) noexcept { byol_encoder_options_init(s, sizeof *s); }
inline void init(byol_encoder_info *s) noexcept { byol_encoder_info_init(s, sizeof *s); }
inline void init(byol_image *s) noexcept { byol_image_init(s, sizeof *s); }
inline void init(byol_extract_options *s) noexcept { byol_extract_options_init(s, sizeof *s); }
inline void init(byol_fit_options *s) noexcept { byol_fit_options_init(s, sizeof *s); }
inline void init(byol_fit_report *s) noexcept { byol_fit_report_init(s, sizeof *s); }
inline void init(byol_head_info *s) noexcept { byol_head_info_init(s, sizeof *s); }
inline void init(byol_metrics *s) noexcept { byol_metrics_init(s, sizeof *s); }
inline void init(byol_runtime_stats *s) noexcept { byol_runtime_stats_init(s, sizeof *s); }
inline void init(byol_image_info *s) noexcept { byol_image_info_init(s, sizeof *s); }
inline void init(byol_features_info *s) noexcept { byol_features_info_init(s, sizeof *s); }
inline void init(byol_trainer_info *s) noexcept { byol_trainer_info_init(s, sizeof *s); }
inline void init(byol_search_options *s) noexcept { byol_search_options_init(s, sizeof *s); }
} // namespace detail

/** A struct of byol.h with its defaults, as its INIT macro gives it. */
template <class Struct> Struct make() noexcept
{
    Struct value;
    detail::init(&value);
    return value;
}

/** Why a call failed. */
class error {
public:
    error() noexcept : raw_(make<byol_error>()) {}
    explicit error(const byol_error &raw) noexcept : raw_(raw) {}
    byol_status code() const noexcept { return raw_.code; }
    /** The code's name, such as "BYOL_E_HANDLE". */
    const char *name() const noexcept { return byol_status_name(raw_.code); }
    const char *message() const noexcept { return raw_.message; }
    /** ONNX Runtime's own code, or 0. */
    std::int32_t runtime_code() const noexcept { return raw_.runtime_code; }
    bool has_item() const noexcept { return raw_.item_index != BYOL_NO_ITEM; }
    /** The picture or row to blame; meaningful if has_item(). */
    std::size_t item() const noexcept { return raw_.item_index; }
    /** Whether the same call may succeed later without a change. */
    bool is_retryable() const noexcept { return byol_status_is_retryable(raw_.code) != 0; }
    const byol_error &raw() const noexcept { return raw_; }

private:
    byol_error raw_;
};

/** What result::value() throws. */
class failure : public std::runtime_error {
public:
    explicit failure(const byol::error &why) : std::runtime_error(why.message()), why_(why) {}
    const byol::error &error() const noexcept { return why_; }
    byol_status code() const noexcept { return why_.code(); }

private:
    byol::error why_;
};

namespace detail {
[[noreturn]] inline void raise(const byol::error &why)
{
#ifdef BYOL_HPP_EXCEPTIONS
    throw failure(why);
#else
    (void)why;
    std::terminate();
#endif
}
} // namespace detail

/** A value, or why there is none. */
template <class T> class BYOL_HPP_NODISCARD result {
public:
    result(T value) : good_(true) { new (&value_) T(std::move(value)); }
    result(const byol::error &why) noexcept : good_(false) { new (&error_) byol::error(why); }
    result(result &&other) noexcept(std::is_nothrow_move_constructible<T>::value) : good_(other.good_)
    {
        if (good_)
            new (&value_) T(std::move(other.value_));
        else
            new (&error_) byol::error(other.error_);
    }
    result(const result &) = delete;
    result &operator=(const result &) = delete;
    result &operator=(result &&) = delete;
    ~result()
    {
        if (good_)
            value_.~T();
        else
            error_.~error();
    }
    explicit operator bool() const noexcept { return good_; }
    bool has_value() const noexcept { return good_; }
    /** The value, or byol::failure is thrown. */
    T &value() &
    {
        check();
        return value_;
    }
    const T &value() const &
    {
        check();
        return value_;
    }
    T value() &&
    {
        check();
        return std::move(value_);
    }
    /** Only where there is a value. */
    T &operator*() noexcept { return value_; }
    const T &operator*() const noexcept { return value_; }
    T *operator->() noexcept { return std::addressof(value_); }
    const T *operator->() const noexcept { return std::addressof(value_); }
    template <class U> T value_or(U &&otherwise) && { return good_ ? std::move(value_) : T(std::forward<U>(otherwise)); }
    /** Only where there is no value. */
    const byol::error &error() const noexcept { return error_; }
    byol_status code() const noexcept { return good_ ? BYOL_OK : error_.code(); }

private:
    void check() const
    {
        if (!good_)
            detail::raise(error_);
    }
    bool good_;
    union {
        T value_;
        byol::error error_;
    };
};

/** Success, or why not. */
template <> class BYOL_HPP_NODISCARD result<void> {
public:
    result() noexcept : error_() {}
    result(const byol::error &why) noexcept : error_(why) {}
    explicit operator bool() const noexcept { return error_.code() == BYOL_OK; }
    bool has_value() const noexcept { return error_.code() == BYOL_OK; }
    void value() const
    {
        if (!has_value())
            detail::raise(error_);
    }
    const byol::error &error() const noexcept { return error_; }
    byol_status code() const noexcept { return error_.code(); }

private:
    byol::error error_;
};

namespace detail {
/** Turns a call's outcome into a result. */
inline result<void> outcome(byol_status status, const byol_error &why) noexcept
{
    return status == BYOL_OK ? result<void>() : result<void>(byol::error(why));
}

/** The text that `give(buffer, capacity, needed, error)` writes, whatever its length. */
template <class Give> result<std::string> text(Give give)
{
    byol_error why = make<byol_error>();
    std::string text(128, '\0');
    for (;;) {
        std::size_t needed = 0;
        const byol_status status = give(&text[0], text.size(), &needed, &why);
        if (status == BYOL_OK) {
            text.resize(needed - 1);
            return result<std::string>(std::move(text));
        }
        if (status != BYOL_E_BUFFER_TOO_SMALL || needed <= text.size())
            return byol::error(why);
        text.resize(needed);
    }
}

/** What libbyol would say of sizes that do not fit, where byol.h takes no length that it could check. */
inline byol::error sizes(const char *text) noexcept
{
    byol_error why = make<byol_error>();
    why.code = BYOL_E_SHAPE;
    while (text[why.message_len] != '\0') {
        why.message[why.message_len] = text[why.message_len];
        why.message_len++;
    }
    return byol::error(why);
}

/** The bytes that `give(buffer, capacity, needed, error)` writes. */
template <class Give> result<std::vector<std::uint8_t>> bytes(Give give)
{
    byol_error why = make<byol_error>();
    std::size_t needed = 0;
    if (give(nullptr, 0, &needed, &why) != BYOL_OK)
        return byol::error(why);
    std::vector<std::uint8_t> bytes(needed);
    if (give(bytes.data(), bytes.size(), nullptr, &why) != BYOL_OK)
        return byol::error(why);
    return result<std::vector<std::uint8_t>>(std::move(bytes));
}

/** Pointers to the texts, which must live as long. */
inline std::vector<const char *> pointers(span<const std::string> texts)
{
    std::vector<const char *> pointers;
    pointers.reserve(texts.size());
    for (const std::string &text : texts)
        pointers.push_back(text.c_str());
    return pointers;
}

/** A handle of byol.h that closes itself. */
template <class Raw, byol_status (*Close)(Raw, byol_error *)> class handle {
public:
    handle() noexcept : raw_() {}
    /** Takes over a handle of byol.h. */
    explicit handle(Raw raw) noexcept : raw_(raw) {}
    handle(handle &&other) noexcept : raw_(other.release()) {}
    handle &operator=(handle &&other) noexcept
    {
        if (this != &other) {
            (void)Close(raw_, nullptr);
            raw_ = other.release();
        }
        return *this;
    }
    handle(const handle &) = delete;
    handle &operator=(const handle &) = delete;
    ~handle() { (void)Close(raw_, nullptr); }
    /** Whether it stands for something. */
    explicit operator bool() const noexcept { return raw_.id != 0; }
    /** The handle of byol.h, which this object goes on to own. */
    Raw raw() const noexcept { return raw_; }
    /** Gives the handle of byol.h up. */
    Raw release() noexcept
    {
        const Raw raw = raw_;
        raw_ = Raw();
        return raw;
    }
    /** Closes it now; says whether that worked. A second time does nothing. */
    result<void> close() noexcept
    {
        byol_error why = make<byol_error>();
        return outcome(Close(release(), &why), why);
    }

private:
    Raw raw_;
};
} // namespace detail

/* The library. */

inline std::uint32_t version() noexcept { return byol_version(); }
inline const char *version_string() noexcept { return byol_version_string(); }
inline std::uint64_t live_handles(std::uint32_t kind = BYOL_KIND_ANY) noexcept { return byol_live_handles(kind); }
inline const char *status_name(byol_status status) noexcept { return byol_status_name(status); }

/** Checks that the library that runs can serve the header that was compiled. */
inline result<void> abi_check() noexcept
{
    byol_error why = make<byol_error>();
    return detail::outcome(byol_abi_check(BYOL_VERSION_MAJOR, BYOL_VERSION_MINOR, &why), why);
}

/** What the library is and runs on, as JSON. */
inline result<std::string> build_info()
{
    return detail::text([](char *buffer, std::size_t capacity, std::size_t *needed, byol_error *why) {
        return byol_build_info(buffer, capacity, needed, why);
    });
}

inline result<void> shutdown() noexcept
{
    byol_error why = make<byol_error>();
    return detail::outcome(byol_shutdown(&why), why);
}

/** Hears what libbyol has to say, on any thread. What it throws is dropped. */
using log_sink = std::function<void(std::uint32_t level, const char *message)>;

namespace detail {
extern "C" {
inline void byol_hpp_log(void *user, std::uint32_t level, const char *message)
{
#ifdef BYOL_HPP_EXCEPTIONS
    try {
#endif
        (*static_cast<log_sink *>(user))(level, message);
#ifdef BYOL_HPP_EXCEPTIONS
    } catch (...) {
    }
#endif
}
inline void byol_hpp_drop(void *user) { delete static_cast<log_sink *>(user); }
}
} // namespace detail

/** Sets the log sink; an empty function for silence. */
inline result<void> set_log_sink(log_sink sink, std::uint32_t level = BYOL_LOG_ERROR)
{
    byol_error why = make<byol_error>();
    if (!sink)
        return detail::outcome(byol_set_log_sink(nullptr, nullptr, nullptr, BYOL_LOG_OFF, &why), why);
    std::unique_ptr<log_sink> user(new log_sink(std::move(sink)));
    const byol_status status = byol_set_log_sink(detail::byol_hpp_log, user.get(), detail::byol_hpp_drop, level, &why);
    if (status == BYOL_OK)
        user.release();
    return detail::outcome(status, why);
}

/** Stops long calls from another thread. A default-constructed one stands for none. */
class cancel : public detail::handle<byol_cancel, byol_cancel_close> {
public:
    using handle::handle;
    cancel() = default;
    /** A token, with a deadline if `timeout_ms` is above 0. */
    static result<cancel> create(std::uint64_t timeout_ms = 0) noexcept
    {
        byol_error why = make<byol_error>();
        byol_cancel raw = byol_cancel();
        if (byol_cancel_create(timeout_ms, &raw, &why) != BYOL_OK)
            return byol::error(why);
        return cancel(raw);
    }
    result<void> trigger() const noexcept
    {
        byol_error why = make<byol_error>();
        return detail::outcome(byol_cancel_trigger(raw(), &why), why);
    }
    result<void> reset() const noexcept
    {
        byol_error why = make<byol_error>();
        return detail::outcome(byol_cancel_reset(raw(), &why), why);
    }
};

/** ONNX Runtime with certain settings. A default-constructed one stands for the default settings. */
class runtime : public detail::handle<byol_runtime, byol_runtime_close> {
public:
    using handle::handle;
    runtime() = default;
    static result<runtime> create(const byol_runtime_options &options = make<byol_runtime_options>()) noexcept
    {
        byol_error why = make<byol_error>();
        byol_runtime raw = byol_runtime();
        if (byol_runtime_create(&options, &raw, &why) != BYOL_OK)
            return byol::error(why);
        return runtime(raw);
    }
};

/** What libbyol has done and holds in this process. */
inline result<byol_runtime_stats> runtime_stats() noexcept
{
    byol_error why = make<byol_error>();
    byol_runtime_stats stats = make<byol_runtime_stats>();
    if (byol_runtime_get_stats(&stats, &why) != BYOL_OK)
        return byol::error(why);
    return stats;
}

/** Gives memory that nobody holds back to the system, where that can be done. */
inline result<void> runtime_trim() noexcept
{
    byol_error why = make<byol_error>();
    return detail::outcome(byol_runtime_trim(&why), why);
}

/** Gives the next bytes of a model: writes some to the front of `room` and returns how many, 0 at the end, below 0 for a
 * failure, as which counts what it throws. */
using read_function = std::function<std::int64_t(span<std::uint8_t> room)>;

namespace detail {
extern "C" {
inline std::int64_t byol_hpp_read(void *user, std::uint8_t *buffer, std::size_t capacity)
{
#ifdef BYOL_HPP_EXCEPTIONS
    try {
#endif
        return (*static_cast<read_function *>(user))(span<std::uint8_t>(buffer, capacity));
#ifdef BYOL_HPP_EXCEPTIONS
    } catch (...) {
        return -1;
    }
#endif
}
}
} // namespace detail

/** Where a model file comes from. */
class source {
public:
    static source file(std::string path)
    {
        source source;
        source.path_ = std::move(path);
        source.is_file_ = true;
        return source;
    }
    /** The bytes must live until the source was used. */
    static source memory(span<const std::uint8_t> bytes)
    {
        source source;
        source.bytes_ = bytes;
        return source;
    }
    /** Bytes that a function gives, each time the source is used. */
    static source reader(read_function read)
    {
        source source;
        source.read_.reset(new read_function(std::move(read)));
        return source;
    }
    /** Tensors that the model keeps in other files of its folder may be read. */
    source &allow_external_data() noexcept
    {
        flags_ |= BYOL_SOURCE_EXTERNAL_DATA;
        return *this;
    }
    /** The file must have this SHA-256, 64 hexadecimal digits. */
    source &expect_sha256(std::string sum)
    {
        sha256_ = std::move(sum);
        return *this;
    }
    /** byol.h's view of it, valid as long as this object. */
    byol_source raw() const noexcept
    {
        byol_source raw = make<byol_source>();
        raw.path = is_file_ ? path_.c_str() : nullptr;
        raw.data = bytes_.data();
        raw.data_len = bytes_.size();
        raw.sha256 = sha256_.empty() ? nullptr : sha256_.c_str();
        raw.flags = flags_;
        raw.read = read_ ? detail::byol_hpp_read : nullptr;
        raw.user = read_.get();
        return raw;
    }

private:
    source() = default;
    std::string path_, sha256_;
    span<const std::uint8_t> bytes_;
    std::shared_ptr<read_function> read_;
    std::uint32_t flags_ = 0;
    bool is_file_ = false;
};

/** What a model file says of itself; nothing of it is run. */
inline result<byol_model_info> inspect(const source &from) noexcept
{
    byol_error why = make<byol_error>();
    byol_model_info info = make<byol_model_info>();
    const byol_source raw = from.raw();
    if (byol_model_inspect(&raw, &info, &why) != BYOL_OK)
        return byol::error(why);
    return info;
}

/** A view of pixels; `stride` 0 for rows without gaps. */
inline byol_image image(std::uint32_t format, std::uint32_t width, std::uint32_t height, span<const std::uint8_t> pixels,
                        std::size_t stride = 0) noexcept
{
    byol_image image = make<byol_image>();
    image.format = format;
    image.width = width;
    image.height = height;
    image.stride = stride;
    image.data = pixels.data();
    image.data_len = pixels.size();
    return image;
}

/** What the header of an encoded picture says. */
inline result<byol_image_info> probe(span<const std::uint8_t> file) noexcept
{
    byol_error why = make<byol_error>();
    byol_image_info info = make<byol_image_info>();
    /* An empty span may have no address; its bytes are no picture either way. */
    static const std::uint8_t nothing = 0;
    if (byol_image_probe(file.empty() ? &nothing : file.data(), file.size(), &info, &why) != BYOL_OK)
        return byol::error(why);
    return info;
}

/** Rows of numbers, one behind the other. */
struct matrix {
    std::vector<float> values;
    std::size_t rows = 0, columns = 0;
    span<const float> row(std::size_t i) const { return span<const float>(values.data() + i * columns, columns); }
};

/** Rows of numbers in somebody else's memory; `stride` floats apart, 0 for `columns`. */
struct matrix_view {
    const float *data;
    std::size_t rows, columns, stride;
    matrix_view(const matrix &m) noexcept : data(m.values.data()), rows(m.rows), columns(m.columns), stride(0) {}
    matrix_view(const float *values, std::size_t row_count, std::size_t column_count, std::size_t row_stride = 0) noexcept
        : data(values), rows(row_count), columns(column_count), stride(row_stride)
    {
    }
};

/** Rows of features in fewer bytes. */
struct packed_matrix {
    /** BYOL_ELEMENT_F16 or BYOL_ELEMENT_I8. */
    std::uint32_t element = BYOL_ELEMENT_F16;
    std::size_t rows = 0, columns = 0;
    /** Pairs of bytes with BYOL_ELEMENT_F16, so that they lie as they must. */
    std::vector<std::uint16_t> storage;
    /** With BYOL_ELEMENT_I8 one per row: value = element * scale. */
    std::vector<float> scales;
    std::size_t bytes() const noexcept { return rows * columns * (element == BYOL_ELEMENT_I8 ? 1 : 2); }
    const void *data() const noexcept { return storage.data(); }
    packed_matrix(std::uint32_t kind, std::size_t row_count, std::size_t column_count)
        : element(kind), rows(row_count), columns(column_count)
    {
        storage.resize((bytes() + 1) / 2);
        if (element == BYOL_ELEMENT_I8)
            scales.resize(rows);
    }
};

/** Packs features into BYOL_ELEMENT_F16 or BYOL_ELEMENT_I8. */
inline result<packed_matrix> pack(const matrix_view &features, std::uint32_t element)
{
    byol_error why = make<byol_error>();
    packed_matrix packed(element, features.rows, features.columns);
    if (byol_pack(features.data, features.rows, features.columns, features.stride, element, packed.storage.data(),
                  packed.bytes(), packed.scales.data(), &why) != BYOL_OK)
        return byol::error(why);
    return result<packed_matrix>(std::move(packed));
}

/** Features out of fewer bytes. */
inline result<matrix> unpack(const packed_matrix &packed)
{
    byol_error why = make<byol_error>();
    matrix features;
    features.rows = packed.rows;
    features.columns = packed.columns;
    features.values.resize(features.rows * features.columns);
    if (byol_unpack(packed.data(), packed.bytes(), packed.element, packed.scales.data(), packed.rows, packed.columns,
                    features.values.data(), 0, features.values.size(), &why) != BYOL_OK)
        return byol::error(why);
    return result<matrix>(std::move(features));
}

/** A model that turns pictures into features. All its functions may be called from any thread. */
class encoder : public detail::handle<byol_encoder, byol_encoder_close> {
public:
    using handle::handle;
    encoder() = default;
    static result<encoder> open(const source &from, const byol_encoder_options &options = make<byol_encoder_options>(),
                                const runtime &on = runtime()) noexcept
    {
        byol_error why = make<byol_error>();
        byol_encoder raw = byol_encoder();
        const byol_source source = from.raw();
        if (byol_encoder_open(on.raw(), &source, &options, &raw, &why) != BYOL_OK)
            return byol::error(why);
        return encoder(raw);
    }
    result<byol_encoder_info> info() const noexcept
    {
        byol_error why = make<byol_error>();
        byol_encoder_info info = make<byol_encoder_info>();
        if (byol_encoder_get_info(raw(), &info, &why) != BYOL_OK)
            return byol::error(why);
        return info;
    }
    /** The value of a key of the file's metadata. */
    result<std::string> metadata(const std::string &key) const
    {
        return detail::text([&](char *buffer, std::size_t capacity, std::size_t *needed, byol_error *why) {
            return byol_encoder_get_metadata(raw(), key.c_str(), buffer, capacity, needed, why);
        });
    }
    /** All keys of the file's metadata, in alphabetical order. */
    result<std::vector<std::string>> metadata_keys() const
    {
        std::vector<std::string> keys;
        for (;;) {
            const std::size_t index = keys.size();
            result<std::string> key =
                detail::text([&](char *buffer, std::size_t capacity, std::size_t *needed, byol_error *why) {
                    return byol_encoder_get_metadata_key(raw(), index, buffer, capacity, needed, why);
                });
            if (key)
                keys.push_back(std::move(*key));
            else if (key.code() == BYOL_E_NOT_FOUND)
                return result<std::vector<std::string>>(std::move(keys));
            else
                return key.error();
        }
    }
    /** Features of pictures in memory, into the caller's rows, `stride` floats apart (0 for the dimension). With
     * `statuses` (one per picture), bad pictures are told there and the others go on. */
    result<void> extract_into(span<const byol_image> images, span<float> features, std::size_t stride = 0,
                              span<byol_status> statuses = span<byol_status>(), const cancel &token = cancel()) const noexcept
    {
        byol_error why = make<byol_error>();
        if (const byol_status status = check_statuses(images.size(), statuses))
            return outcome_of_sizes(status);
        return detail::outcome(byol_extract(raw(), images.data(), images.size(), nullptr, features.data(), stride,
                                            features.size(), statuses.data(), token.raw(), &why),
                               why);
    }
    /** Features of pictures in memory, [images, dimension]. */
    result<matrix> extract(span<const byol_image> images, span<byol_status> statuses = span<byol_status>(),
                           const cancel &token = cancel()) const
    {
        return rows(images.size(), statuses, [&](float *out, std::size_t length, byol_status *status, byol_error *why) {
            return byol_extract(raw(), images.data(), images.size(), nullptr, out, 0, length, status, token.raw(), why);
        });
    }
    /** Features of pictures in memory as BYOL_ELEMENT_F16 or BYOL_ELEMENT_I8; the rows of bad ones are 0. */
    result<packed_matrix> extract_packed(span<const byol_image> images, std::uint32_t element,
                                         span<byol_status> statuses = span<byol_status>(),
                                         const cancel &token = cancel()) const
    {
        byol_error why = make<byol_error>();
        if (const byol_status status = check_statuses(images.size(), statuses))
            return outcome_of_sizes(status);
        const result<byol_encoder_info> about = info();
        if (!about)
            return about.error();
        packed_matrix packed(element, images.size(), about->dimension);
        byol_extract_options options = make<byol_extract_options>();
        options.element = element;
        options.packed = packed.storage.data();
        options.packed_len = packed.bytes();
        options.scales = packed.scales.data();
        if (element != BYOL_ELEMENT_F16 && element != BYOL_ELEMENT_I8)
            return detail::sizes("There is nothing to pack into but BYOL_ELEMENT_F16 and BYOL_ELEMENT_I8");
        if (byol_extract(raw(), images.data(), images.size(), &options, nullptr, 0, 0, statuses.data(), token.raw(), &why) !=
            BYOL_OK)
            return byol::error(why);
        return result<packed_matrix>(std::move(packed));
    }
    /** Features of encoded pictures (JPEG, PNG, ...), each the bytes of one file. */
    result<matrix> extract_encoded(span<const span<const std::uint8_t>> files,
                                   span<byol_status> statuses = span<byol_status>(), const cancel &token = cancel()) const
    {
        std::vector<const std::uint8_t *> data;
        std::vector<std::size_t> lengths;
        for (const span<const std::uint8_t> &file : files) {
            data.push_back(file.data());
            lengths.push_back(file.size());
        }
        return rows(files.size(), statuses, [&](float *out, std::size_t length, byol_status *status, byol_error *why) {
            return byol_extract_encoded(raw(), data.data(), lengths.data(), data.size(), nullptr, out, 0, length, status,
                                        token.raw(), why);
        });
    }
    /** Features of picture files. */
    result<matrix> extract_files(const std::vector<std::string> &paths, span<byol_status> statuses = span<byol_status>(),
                                 const cancel &token = cancel()) const
    {
        const std::vector<const char *> names = detail::pointers(span<const std::string>(paths.data(), paths.size()));
        return rows(paths.size(), statuses, [&](float *out, std::size_t length, byol_status *status, byol_error *why) {
            return byol_extract_files(raw(), names.data(), names.size(), nullptr, out, 0, length, status, token.raw(), why);
        });
    }
    /** Features of `count` pictures of the input's size: pixels [count, height, width, channels]. */
    result<matrix> extract_tensor(span<const std::uint8_t> pixels, std::size_t count, const cancel &token = cancel()) const
    {
        return tensor(pixels.data(), pixels.size(), BYOL_TENSOR_U8, count, token);
    }
    /** Features of `count` pictures of the input's size: normalised values [count, channels, height, width]. */
    result<matrix> extract_tensor(span<const float> values, std::size_t count, const cancel &token = cancel()) const
    {
        return tensor(values.data(), values.size() * sizeof(float), BYOL_TENSOR_F32, count, token);
    }

private:
    static byol_status check_statuses(std::size_t items, span<byol_status> statuses) noexcept
    {
        return !statuses.empty() && statuses.size() != items ? BYOL_E_SHAPE : BYOL_OK;
    }
    /** byol.h takes no length for item_status, so a wrong one has to be caught here. */
    static byol::error outcome_of_sizes(byol_status status) noexcept
    {
        byol_error why = make<byol_error>();
        static const char text[] = "There must be one status per picture";
        why.code = status;
        why.message_len = static_cast<std::uint32_t>(sizeof text - 1);
        for (std::size_t i = 0; i < sizeof text; i++)
            why.message[i] = text[i];
        return byol::error(why);
    }
    template <class Run> result<matrix> rows(std::size_t count, span<byol_status> statuses, Run run) const
    {
        byol_error why = make<byol_error>();
        if (const byol_status status = check_statuses(count, statuses))
            return outcome_of_sizes(status);
        byol_encoder_info about = make<byol_encoder_info>();
        if (byol_encoder_get_info(raw(), &about, &why) != BYOL_OK)
            return byol::error(why);
        matrix features;
        features.rows = count;
        features.columns = about.dimension;
        features.values.resize(count * features.columns);
        if (run(features.values.data(), features.values.size(), statuses.data(), &why) != BYOL_OK)
            return byol::error(why);
        return result<matrix>(std::move(features));
    }
    result<matrix> tensor(const void *values, std::size_t bytes, std::uint32_t element, std::size_t count,
                          const cancel &token) const
    {
        return rows(count, span<byol_status>(), [&](float *out, std::size_t length, byol_status *, byol_error *why) {
            return byol_extract_tensor(raw(), values, bytes, element, count, nullptr, out, 0, length, token.raw(), why);
        });
    }
};

/** Classes of rows: the most probable one of each, and the probabilities [rows, classes]. */
struct prediction {
    std::vector<std::uint32_t> labels;
    matrix probabilities;
};

/** What byol_head_evaluate finds. */
struct evaluation {
    byol_metrics metrics;
    /** Precision, recall and F1 of every class, [classes, 3]. */
    std::vector<double> per_class;
    /** [class, predicted class] */
    std::vector<std::uint64_t> confusion;
};

/** Hears from a fit after every iteration; false stops it. */
using fit_progress = std::function<bool(std::uint64_t iteration, double objective, double gap)>;

/** Hears from a search after every penalty; false stops it. */
using search_progress = std::function<bool(double l2, double accuracy, double log_loss)>;

namespace detail {
/** What one fit or search lends to libbyol. */
template <class... Values> struct listener {
    const std::function<bool(Values...)> &progress;
#ifdef BYOL_HPP_EXCEPTIONS
    std::exception_ptr thrown;
#endif
    explicit listener(const std::function<bool(Values...)> &hears) noexcept : progress(hears) {}
    std::int32_t hear(Values... values)
    {
#ifdef BYOL_HPP_EXCEPTIONS
        try {
            return progress(values...) ? 0 : 1;
        } catch (...) {
            /* It goes on to the caller once libbyol has returned. */
            thrown = std::current_exception();
            return 1;
        }
#else
        return progress(values...) ? 0 : 1;
#endif
    }
};
extern "C" {
inline std::int32_t byol_hpp_fit(void *user, std::uint64_t iteration, double objective, double gap)
{
    return static_cast<listener<std::uint64_t, double, double> *>(user)->hear(iteration, objective, gap);
}
inline std::int32_t byol_hpp_search(void *user, double l2, double accuracy, double log_loss)
{
    return static_cast<listener<double, double, double> *>(user)->hear(l2, accuracy, log_loss);
}
}
} // namespace detail

/** A linear classifier of features. All its functions may be called from any thread. */
class head : public detail::handle<byol_head, byol_head_close> {
public:
    using handle::handle;
    head() = default;
    static result<head> load(const std::string &path) noexcept
    {
        byol_error why = make<byol_error>();
        byol_head raw = byol_head();
        if (byol_head_load(path.c_str(), &raw, &why) != BYOL_OK)
            return byol::error(why);
        return head(raw);
    }
    static result<head> load(span<const std::uint8_t> bytes) noexcept
    {
        byol_error why = make<byol_error>();
        byol_head raw = byol_head();
        if (byol_head_load_bytes(bytes.data(), bytes.size(), &raw, &why) != BYOL_OK)
            return byol::error(why);
        return head(raw);
    }
    /** Fits a head to rows of features and their labels, one of `class_names` each. `of` is the encoder whose features
     * they are, or a default-constructed one. What `progress` throws comes out of here. */
    static result<head> fit(const matrix_view &features, span<const std::uint32_t> labels,
                            const std::vector<std::string> &class_names, const encoder &of = encoder(),
                            const byol_fit_options &options = make<byol_fit_options>(),
                            const fit_progress &progress = fit_progress(), const cancel &token = cancel(),
                            byol_fit_report *report = nullptr)
    {
        return fit_with(features, labels, class_names, progress, [&](const call &c, byol_head *out, byol_error *why) {
            return byol_head_fit(features.data, features.rows, features.columns, features.stride, labels.data(), c.names,
                                 c.classes, of.raw(), &options, c.progress, c.user, token.raw(), out, report, why);
        });
    }
    /** Fits again as fit does, to the same optimum, starting at this head: after examples changed, or with another
     * penalty, in a fraction of the time. */
    result<head> refit(const matrix_view &features, span<const std::uint32_t> labels,
                       const std::vector<std::string> &class_names, const encoder &of = encoder(),
                       const byol_fit_options &options = make<byol_fit_options>(),
                       const fit_progress &progress = fit_progress(), const cancel &token = cancel(),
                       byol_fit_report *report = nullptr) const
    {
        return fit_with(features, labels, class_names, progress, [&](const call &c, byol_head *out, byol_error *why) {
            return byol_head_refit(raw(), features.data, features.rows, features.columns, features.stride, labels.data(),
                                   c.names, c.classes, of.raw(), &options, c.progress, c.user, token.raw(), out, report,
                                   why);
        });
    }
    /** A head from weights [classes, columns], and a bias of one number per class or none. */
    static result<head> create(const matrix_view &weights, span<const float> bias,
                               const std::vector<std::string> &class_names, const encoder &of = encoder())
    {
        byol_error why = make<byol_error>();
        byol_head raw = byol_head();
        if (class_names.size() != weights.rows || (!bias.empty() && bias.size() != weights.rows))
            return detail::sizes("There must be one name and one bias per row of weights");
        const std::vector<const char *> names =
            detail::pointers(span<const std::string>(class_names.data(), class_names.size()));
        if (byol_head_create(weights.data, static_cast<std::uint32_t>(weights.rows), weights.columns, weights.stride,
                             bias.empty() ? nullptr : bias.data(), names.data(), of.raw(), &raw, &why) != BYOL_OK)
            return byol::error(why);
        return head(raw);
    }
    /** Its weights, [classes, dimension]. */
    result<matrix> weights() const
    {
        byol_error why = make<byol_error>();
        const result<byol_head_info> about = info();
        if (!about)
            return about.error();
        matrix weights;
        weights.rows = about->classes;
        weights.columns = about->dimension;
        weights.values.resize(weights.rows * weights.columns);
        if (byol_head_get_weights(raw(), weights.values.data(), weights.values.size(), nullptr, 0, &why) != BYOL_OK)
            return byol::error(why);
        return result<matrix>(std::move(weights));
    }
    /** Its bias, one number per class. */
    result<std::vector<float>> bias() const
    {
        byol_error why = make<byol_error>();
        const result<byol_head_info> about = info();
        if (!about)
            return about.error();
        std::vector<float> bias(about->classes);
        if (byol_head_get_weights(raw(), nullptr, 0, bias.data(), bias.size(), &why) != BYOL_OK)
            return byol::error(why);
        return result<std::vector<float>>(std::move(bias));
    }
    /** A second handle of the same head. */
    result<head> clone() const noexcept
    {
        byol_error why = make<byol_error>();
        byol_head copy = byol_head();
        if (byol_head_clone(raw(), &copy, &why) != BYOL_OK)
            return byol::error(why);
        return head(copy);
    }
    /** A head whose probabilities are as often right as they say, by labelled features that this one was not fitted to.
     * `temperature` gets what the scores were divided by. */
    result<head> calibrate(const matrix_view &features, span<const std::uint32_t> labels, double *temperature = nullptr) const
    {
        byol_error why = make<byol_error>();
        byol_head cool = byol_head();
        if (labels.size() != features.rows)
            return detail::sizes("There must be one label per row");
        if (byol_head_calibrate(raw(), features.data, features.rows, features.columns, features.stride, labels.data(), &cool,
                                temperature, &why) != BYOL_OK)
            return byol::error(why);
        return head(cool);
    }
    /** As an ONNX model of its own, from features to classes. */
    result<void> export_onnx(const std::string &path) const noexcept
    {
        byol_error why = make<byol_error>();
        return detail::outcome(byol_head_export_onnx(raw(), nullptr, path.c_str(), &why), why);
    }
    /** As an ONNX model behind its encoder's file, from pictures to classes. */
    result<void> export_onnx(const std::string &path, const source &behind) const noexcept
    {
        byol_error why = make<byol_error>();
        const byol_source encoder = behind.raw();
        return detail::outcome(byol_head_export_onnx(raw(), &encoder, path.c_str(), &why), why);
    }
    /** The bytes of an ONNX model of its own. */
    result<std::vector<std::uint8_t>> onnx() const
    {
        return detail::bytes([&](std::uint8_t *buffer, std::size_t capacity, std::size_t *needed, byol_error *why) {
            return byol_head_export_onnx_bytes(raw(), nullptr, buffer, capacity, needed, why);
        });
    }
    /** The bytes of an ONNX model behind its encoder's file. */
    result<std::vector<std::uint8_t>> onnx(const source &behind) const
    {
        byol_source encoder = behind.raw();
        /* A function gives its bytes once, to the first of two calls, and the second finds them here. */
        const byol_source given = encoder;
        std::vector<std::uint8_t> file;
        read_function keep = [&](span<std::uint8_t> room) {
            const std::int64_t count = given.read(given.user, room.data(), room.size());
            if (count > 0 && static_cast<std::uint64_t>(count) <= room.size())
                file.insert(file.end(), room.data(), room.data() + count);
            return count;
        };
        if (given.read)
            encoder.user = &keep;
        return detail::bytes([&](std::uint8_t *buffer, std::size_t capacity, std::size_t *needed, byol_error *why) {
            const byol_status status = byol_head_export_onnx_bytes(raw(), &encoder, buffer, capacity, needed, why);
            if (encoder.read) {
                encoder.read = nullptr;
                encoder.data = file.data();
                encoder.data_len = file.size();
            }
            return status;
        });
    }
    result<void> save(const std::string &path) const noexcept
    {
        byol_error why = make<byol_error>();
        return detail::outcome(byol_head_save(raw(), path.c_str(), &why), why);
    }
    /** The bytes of its file. */
    result<std::vector<std::uint8_t>> save() const
    {
        return detail::bytes([&](std::uint8_t *buffer, std::size_t capacity, std::size_t *needed, byol_error *why) {
            return byol_head_save_bytes(raw(), buffer, capacity, needed, why);
        });
    }
    result<byol_head_info> info() const noexcept
    {
        byol_error why = make<byol_error>();
        byol_head_info info = make<byol_head_info>();
        if (byol_head_get_info(raw(), &info, &why) != BYOL_OK)
            return byol::error(why);
        return info;
    }
    result<std::string> label(std::uint32_t class_index) const
    {
        return detail::text([&](char *buffer, std::size_t capacity, std::size_t *needed, byol_error *why) {
            return byol_head_get_label(raw(), class_index, buffer, capacity, needed, why);
        });
    }
    /** Whether it belongs to an encoder. */
    result<void> check(const encoder &with) const noexcept
    {
        byol_error why = make<byol_error>();
        return detail::outcome(byol_head_check(raw(), with.raw(), &why), why);
    }
    result<prediction> predict(const matrix_view &features) const
    {
        return predictions(features.rows, [&](prediction &out, byol_error *why) {
            return byol_head_predict(raw(), features.data, features.rows, features.columns, features.stride,
                                     out.labels.data(), out.probabilities.values.data(), out.probabilities.values.size(),
                                     why);
        });
    }
    /** The `k` most probable classes of every row, [rows, k], best first; BYOL_NO_CLASS in place of those less probable
     * than `threshold`. */
    result<prediction> top_k(const matrix_view &features, std::uint32_t k, float threshold = 0) const
    {
        byol_error why = make<byol_error>();
        prediction out;
        out.labels.resize(features.rows * k);
        out.probabilities.rows = features.rows;
        out.probabilities.columns = k;
        out.probabilities.values.resize(features.rows * k);
        if (byol_head_top_k(raw(), features.data, features.rows, features.columns, features.stride, k, threshold,
                            out.labels.data(), out.labels.size(), out.probabilities.values.data(),
                            out.probabilities.values.size(), &why) != BYOL_OK)
            return byol::error(why);
        return result<prediction>(std::move(out));
    }
    /** Scores before they become probabilities, [rows, classes]. */
    result<matrix> logits(const matrix_view &features) const
    {
        byol_error why = make<byol_error>();
        const result<byol_head_info> about = info();
        if (!about)
            return about.error();
        matrix scores;
        scores.rows = features.rows;
        scores.columns = about->classes;
        scores.values.resize(scores.rows * scores.columns);
        if (byol_head_logits(raw(), features.data, features.rows, features.columns, features.stride, scores.values.data(),
                             scores.values.size(), &why) != BYOL_OK)
            return byol::error(why);
        return result<matrix>(std::move(scores));
    }
    /** Extracts and predicts in one call. With `statuses`, a bad picture is told there; its label is 0 then. */
    result<prediction> classify(const encoder &with, span<const byol_image> images,
                                span<byol_status> statuses = span<byol_status>(), const cancel &token = cancel()) const
    {
        if (!statuses.empty() && statuses.size() != images.size())
            return detail::sizes("There must be one status per picture");
        return predictions(images.size(), [&](prediction &out, byol_error *why) {
            return byol_head_classify(raw(), with.raw(), images.data(), images.size(), nullptr, out.labels.data(),
                                      out.probabilities.values.data(), out.probabilities.values.size(), statuses.data(),
                                      token.raw(), why);
        });
    }
    result<evaluation> evaluate(const matrix_view &features, span<const std::uint32_t> labels) const
    {
        byol_error why = make<byol_error>();
        if (labels.size() != features.rows)
            return detail::sizes("There must be one label per row");
        const result<byol_head_info> about = info();
        if (!about)
            return about.error();
        const std::size_t classes = about->classes;
        evaluation found;
        found.metrics = make<byol_metrics>();
        found.per_class.resize(3 * classes);
        found.confusion.resize(classes * classes);
        if (byol_head_evaluate(raw(), features.data, features.rows, features.columns, features.stride, labels.data(),
                               &found.metrics, found.per_class.data(), found.per_class.size(), found.confusion.data(),
                               found.confusion.size(), &why) != BYOL_OK)
            return byol::error(why);
        return result<evaluation>(std::move(found));
    }

private:
    /** What a fit gets of names and progress. */
    struct call {
        const char *const *names;
        std::uint32_t classes;
        byol_fit_callback progress;
        void *user;
    };
    template <class Run>
    static result<head> fit_with(const matrix_view &features, span<const std::uint32_t> labels,
                                 const std::vector<std::string> &class_names, const fit_progress &progress, Run run)
    {
        if (labels.size() != features.rows)
            return detail::sizes("There must be one label per row");
        const std::vector<const char *> names =
            detail::pointers(span<const std::string>(class_names.data(), class_names.size()));
        return listening(progress, detail::byol_hpp_fit,
            [&](byol_fit_callback hear, void *user, byol_head *out, byol_error *why) {
                return run(call{names.data(), static_cast<std::uint32_t>(names.size()), hear, user}, out, why);
            });
    }
    /** Runs a fit or search that `progress` hears of through `hear`; what it throws comes out of here. */
    template <class... Values, class Hear, class Run>
    static result<head> listening(const std::function<bool(Values...)> &progress, Hear hear, Run run)
    {
        byol_error why = make<byol_error>();
        byol_head raw = byol_head();
        detail::listener<Values...> listener(progress);
        const byol_status status = run(progress ? hear : nullptr, &listener, &raw, &why);
#ifdef BYOL_HPP_EXCEPTIONS
        if (listener.thrown) {
            (void)byol_head_close(raw, nullptr);
            std::rethrow_exception(listener.thrown);
        }
#endif
        if (status != BYOL_OK)
            return byol::error(why);
        return head(raw);
    }
    friend class trainer;
    template <class Run> result<prediction> predictions(std::size_t rows, Run run) const
    {
        byol_error why = make<byol_error>();
        const result<byol_head_info> about = info();
        if (!about)
            return about.error();
        prediction out;
        out.labels.resize(rows);
        out.probabilities.rows = rows;
        out.probabilities.columns = about->classes;
        out.probabilities.values.resize(rows * out.probabilities.columns);
        if (run(out, &why) != BYOL_OK)
            return byol::error(why);
        return result<prediction>(std::move(out));
    }
};

/** The class of each query by its `k` nearest rows of `train`, by cosine. */
inline result<std::vector<std::uint32_t>> knn_predict(const matrix_view &train, span<const std::uint32_t> labels,
                                                      const matrix_view &queries, std::uint32_t k = 20,
                                                      float temperature = 0)
{
    byol_error why = make<byol_error>();
    std::vector<std::uint32_t> predicted(queries.rows);
    if (labels.size() != train.rows || train.columns != queries.columns)
        return detail::sizes("There must be one label per row, and queries as wide as the rows");
    if (byol_knn_predict(train.data, train.rows, train.stride, labels.data(), queries.data, queries.rows, queries.stride,
                         train.columns, k, temperature, predicted.data(), &why) != BYOL_OK)
        return byol::error(why);
    return result<std::vector<std::uint32_t>>(std::move(predicted));
}

/** Rows nearest to queries, [queries, k]: their numbers and their cosines. */
struct neighbours {
    std::vector<std::uint32_t> rows;
    matrix similarities;
};

/** Rows of features with what is known about each. All its functions may be called from any thread. */
class features : public detail::handle<byol_features, byol_features_close> {
public:
    using handle::handle;
    features() = default;
    /** An empty container for features of an encoder. */
    static result<features> create(const encoder &of) noexcept { return create_raw(of.raw(), 0); }
    /** An empty container for features of `dimension` numbers each. */
    static result<features> create(std::uint32_t dimension) noexcept { return create_raw(byol_encoder(), dimension); }
    static result<features> load(const std::string &path) noexcept
    {
        byol_error why = make<byol_error>();
        byol_features raw = byol_features();
        if (byol_features_load(path.c_str(), &raw, &why) != BYOL_OK)
            return byol::error(why);
        return features(raw);
    }
    result<void> save(const std::string &path) const noexcept
    {
        byol_error why = make<byol_error>();
        return detail::outcome(byol_features_save(raw(), path.c_str(), &why), why);
    }
    /** Adds rows; labels and names are one per row, or none at all. */
    result<void> append(const matrix_view &values, span<const std::uint32_t> labels = span<const std::uint32_t>(),
                        const std::vector<std::string> &names = std::vector<std::string>())
    {
        byol_error why = make<byol_error>();
        if ((!labels.empty() && labels.size() != values.rows) || (!names.empty() && names.size() != values.rows))
            return detail::sizes("There must be one label and one name per row, or none");
        const std::vector<const char *> texts = detail::pointers(span<const std::string>(names.data(), names.size()));
        return detail::outcome(byol_features_append(raw(), values.data, values.rows, values.columns, values.stride,
                                                    labels.empty() ? nullptr : labels.data(),
                                                    texts.empty() ? nullptr : texts.data(), &why),
                               why);
    }
    /** Names the classes that labels count. */
    result<void> set_classes(const std::vector<std::string> &class_names)
    {
        byol_error why = make<byol_error>();
        const std::vector<const char *> names =
            detail::pointers(span<const std::string>(class_names.data(), class_names.size()));
        return detail::outcome(
            byol_features_set_classes(raw(), names.data(), static_cast<std::uint32_t>(names.size()), &why), why);
    }
    result<byol_features_info> info() const noexcept
    {
        byol_error why = make<byol_error>();
        byol_features_info info = make<byol_features_info>();
        if (byol_features_get_info(raw(), &info, &why) != BYOL_OK)
            return byol::error(why);
        return info;
    }
    /** A copy of `count` rows from `first` on. */
    result<matrix> rows(std::size_t first, std::size_t count) const
    {
        byol_error why = make<byol_error>();
        const result<byol_features_info> about = info();
        if (!about)
            return about.error();
        matrix out;
        out.rows = count;
        out.columns = about->dimension;
        /* Before room is made for them: rows that are not there. */
        if (count > about->rows)
            return detail::sizes("There are not so many rows");
        out.values.resize(out.rows * out.columns);
        if (count > 0 &&
            byol_features_get_rows(raw(), first, count, out.values.data(), 0, out.values.size(), nullptr, &why) != BYOL_OK)
            return byol::error(why);
        return result<matrix>(std::move(out));
    }
    /** A copy of `count` labels from row `first` on. */
    result<std::vector<std::uint32_t>> labels(std::size_t first, std::size_t count) const
    {
        byol_error why = make<byol_error>();
        const result<byol_features_info> about = info();
        if (!about)
            return about.error();
        if (count > about->rows)
            return detail::sizes("There are not so many rows");
        std::vector<std::uint32_t> out(count);
        if (count > 0 && byol_features_get_rows(raw(), first, count, nullptr, 0, 0, out.data(), &why) != BYOL_OK)
            return byol::error(why);
        return result<std::vector<std::uint32_t>>(std::move(out));
    }
    result<std::string> name(std::size_t row) const
    {
        return detail::text([&](char *buffer, std::size_t capacity, std::size_t *needed, byol_error *why) {
            return byol_features_get_name(raw(), row, buffer, capacity, needed, why);
        });
    }
    result<std::string> class_name(std::uint32_t class_index) const
    {
        return detail::text([&](char *buffer, std::size_t capacity, std::size_t *needed, byol_error *why) {
            return byol_features_get_class(raw(), class_index, buffer, capacity, needed, why);
        });
    }
    /** The cosine of each query with every row, [queries, rows]. */
    result<matrix> similarity(const matrix_view &queries) const
    {
        byol_error why = make<byol_error>();
        const result<byol_features_info> about = info();
        if (!about)
            return about.error();
        matrix out;
        out.rows = queries.rows;
        out.columns = static_cast<std::size_t>(about->rows);
        out.values.resize(out.rows * out.columns);
        if (byol_features_similarity(raw(), queries.data, queries.rows, queries.columns, queries.stride, out.values.data(),
                                     out.values.size(), &why) != BYOL_OK)
            return byol::error(why);
        return result<matrix>(std::move(out));
    }
    /** The `k` rows nearest to each query by cosine, nearest first. */
    result<neighbours> nearest(const matrix_view &queries, std::uint32_t k) const
    {
        byol_error why = make<byol_error>();
        const result<byol_features_info> about = info();
        if (!about)
            return about.error();
        if (k > about->rows)
            return detail::sizes("There are fewer rows than k");
        neighbours out;
        out.rows.resize(queries.rows * k);
        out.similarities.rows = queries.rows;
        out.similarities.columns = k;
        out.similarities.values.resize(queries.rows * k);
        if (byol_features_nearest(raw(), queries.data, queries.rows, queries.columns, queries.stride, k, out.rows.data(),
                                  out.rows.size(), out.similarities.values.data(), out.similarities.values.size(),
                                  &why) != BYOL_OK)
            return byol::error(why);
        return result<neighbours>(std::move(out));
    }

private:
    static result<features> create_raw(byol_encoder of, std::uint32_t dimension) noexcept
    {
        byol_error why = make<byol_error>();
        byol_features raw = byol_features();
        if (byol_features_create(of, dimension, &raw, &why) != BYOL_OK)
            return byol::error(why);
        return features(raw);
    }
};

/** What became of one penalty of a search. */
struct tried_penalty {
    double l2, accuracy, deviation, log_loss;
};

/** Examples that come and go, and the heads that are fitted to them. All its functions may be called from any thread. */
class trainer : public detail::handle<byol_trainer, byol_trainer_close> {
public:
    using handle::handle;
    trainer() = default;
    /** A trainer for features of an encoder. */
    static result<trainer> create(const encoder &of) noexcept { return create_raw(of.raw(), 0); }
    /** A trainer for features of `dimension` numbers each. */
    static result<trainer> create(std::uint32_t dimension) noexcept { return create_raw(byol_encoder(), dimension); }
    result<byol_trainer_info> info() const noexcept
    {
        byol_error why = make<byol_error>();
        byol_trainer_info info = make<byol_trainer_info>();
        if (byol_trainer_get_info(raw(), &info, &why) != BYOL_OK)
            return byol::error(why);
        return info;
    }
    /** The number of the class of that name, which is made where there is none. */
    result<std::uint32_t> add_class(const std::string &name) noexcept
    {
        byol_error why = make<byol_error>();
        std::uint32_t class_index = 0;
        if (byol_trainer_add_class(raw(), name.c_str(), &class_index, &why) != BYOL_OK)
            return byol::error(why);
        return class_index;
    }
    result<std::string> class_name(std::uint32_t class_index) const
    {
        return detail::text([&](char *buffer, std::size_t capacity, std::size_t *needed, byol_error *why) {
            return byol_trainer_get_class(raw(), class_index, buffer, capacity, needed, nullptr, why);
        });
    }
    /** Number of examples of a class. */
    result<std::uint64_t> examples(std::uint32_t class_index) const noexcept
    {
        byol_error why = make<byol_error>();
        std::uint64_t examples = 0;
        std::size_t needed = 0;
        if (byol_trainer_get_class(raw(), class_index, nullptr, 0, &needed, &examples, &why) != BYOL_OK)
            return byol::error(why);
        return examples;
    }
    /** Removes a class with its examples; the numbers of those behind it become smaller by one. */
    result<void> remove_class(std::uint32_t class_index) noexcept
    {
        byol_error why = make<byol_error>();
        return detail::outcome(byol_trainer_remove_class(raw(), class_index, &why), why);
    }
    /** Adds rows of features with the numbers of their classes; gives the examples' own numbers. */
    result<std::vector<std::uint64_t>> add(const matrix_view &rows, span<const std::uint32_t> labels)
    {
        byol_error why = make<byol_error>();
        if (labels.size() != rows.rows)
            return detail::sizes("There must be one label per row");
        std::vector<std::uint64_t> ids(rows.rows);
        if (byol_trainer_add(raw(), rows.data, rows.rows, rows.columns, rows.stride, labels.data(), ids.data(), &why) !=
            BYOL_OK)
            return byol::error(why);
        return result<std::vector<std::uint64_t>>(std::move(ids));
    }
    /** Adds pictures in memory. With `statuses`, a bad one is told there, its number is 0, and the others are added. */
    result<std::vector<std::uint64_t>> add_images(const encoder &with, span<const byol_image> images,
                                                  span<const std::uint32_t> labels,
                                                  span<byol_status> statuses = span<byol_status>(),
                                                  const cancel &token = cancel())
    {
        return added(images.size(), labels, statuses, [&](std::uint64_t *ids, byol_error *why) {
            return byol_trainer_add_images(raw(), with.raw(), images.data(), images.size(), labels.data(), ids,
                                           statuses.data(), token.raw(), why);
        });
    }
    /** Adds encoded pictures, each the bytes of one file. */
    result<std::vector<std::uint64_t>> add_encoded(const encoder &with, span<const span<const std::uint8_t>> files,
                                                   span<const std::uint32_t> labels,
                                                   span<byol_status> statuses = span<byol_status>(),
                                                   const cancel &token = cancel())
    {
        std::vector<const std::uint8_t *> data;
        std::vector<std::size_t> lengths;
        for (const span<const std::uint8_t> &file : files) {
            data.push_back(file.data());
            lengths.push_back(file.size());
        }
        return added(files.size(), labels, statuses, [&](std::uint64_t *ids, byol_error *why) {
            return byol_trainer_add_encoded(raw(), with.raw(), data.data(), lengths.data(), data.size(), labels.data(), ids,
                                            statuses.data(), token.raw(), why);
        });
    }
    /** Adds picture files. */
    result<std::vector<std::uint64_t>> add_files(const encoder &with, const std::vector<std::string> &paths,
                                                 span<const std::uint32_t> labels,
                                                 span<byol_status> statuses = span<byol_status>(),
                                                 const cancel &token = cancel())
    {
        const std::vector<const char *> names = detail::pointers(span<const std::string>(paths.data(), paths.size()));
        return added(paths.size(), labels, statuses, [&](std::uint64_t *ids, byol_error *why) {
            return byol_trainer_add_files(raw(), with.raw(), names.data(), names.size(), labels.data(), ids,
                                          statuses.data(), token.raw(), why);
        });
    }
    /** Adds the rows of a container with labels, classes matched by name; gives the number of the first. */
    result<std::uint64_t> add(const byol::features &rows) noexcept
    {
        byol_error why = make<byol_error>();
        std::uint64_t first = 0;
        if (byol_trainer_add_features(raw(), rows.raw(), &first, &why) != BYOL_OK)
            return byol::error(why);
        return first;
    }
    /** A copy of all examples. */
    result<byol::features> features() const noexcept
    {
        byol_error why = make<byol_error>();
        byol_features copy = byol_features();
        if (byol_trainer_get_features(raw(), &copy, &why) != BYOL_OK)
            return byol::error(why);
        return byol::features(copy);
    }
    /** Removes examples by their numbers, all or none. */
    result<void> remove(span<const std::uint64_t> ids) noexcept
    {
        byol_error why = make<byol_error>();
        return detail::outcome(byol_trainer_remove(raw(), ids.data(), ids.size(), &why), why);
    }
    /** Gives an example to another class. */
    result<void> relabel(std::uint64_t example, std::uint32_t class_index) noexcept
    {
        byol_error why = make<byol_error>();
        return detail::outcome(byol_trainer_relabel(raw(), example, class_index, &why), why);
    }
    /** Fits a head to all examples. What `progress` throws comes out of here. */
    result<head> fit(const byol_fit_options &options = make<byol_fit_options>(),
                     const fit_progress &progress = fit_progress(), const cancel &token = cancel(),
                     byol_fit_report *report = nullptr)
    {
        return head::listening(progress, detail::byol_hpp_fit,
            [&](byol_fit_callback hear, void *user, byol_head *out, byol_error *why) {
                return byol_trainer_fit(raw(), &options, hear, user, token.raw(), out, report, why);
            });
    }
    /** As fit, starting at the last optimum: to the same one, in a fraction of the time. */
    result<head> refit(const byol_fit_options &options = make<byol_fit_options>(),
                       const fit_progress &progress = fit_progress(), const cancel &token = cancel(),
                       byol_fit_report *report = nullptr)
    {
        return head::listening(progress, detail::byol_hpp_fit,
            [&](byol_fit_callback hear, void *user, byol_head *out, byol_error *why) {
                return byol_trainer_refit(raw(), &options, hear, user, token.raw(), out, report, why);
            });
    }
    /** Tries penalties on examples that are held out, and fits the best to all. `tried` gets what became of each. */
    result<head> search(const byol_search_options &options = make<byol_search_options>(),
                        const byol_fit_options &fit_options = make<byol_fit_options>(),
                        const search_progress &progress = search_progress(), const cancel &token = cancel(),
                        byol_fit_report *report = nullptr, std::vector<tried_penalty> *tried = nullptr)
    {
        const std::size_t most = options.penalties ? options.penalties_len : BYOL_SEARCH_PENALTIES;
        std::vector<double> found(4 * most);
        std::size_t count = 0;
        result<head> best = head::listening(
            progress, detail::byol_hpp_search,
            [&](byol_search_callback hear, void *user, byol_head *out, byol_error *why) {
                return byol_trainer_search(raw(), &fit_options, &options, hear, user, token.raw(), out, report, found.data(),
                                           found.size(), &count, why);
            });
        if (best && tried) {
            tried->clear();
            for (std::size_t i = 0; i < count; i++)
                tried->push_back(tried_penalty{found[4 * i], found[4 * i + 1], found[4 * i + 2], found[4 * i + 3]});
        }
        return best;
    }
    /** A head without fitting, from the mean of each class's examples. */
    result<head> imprint(float scale) const noexcept
    {
        byol_error why = make<byol_error>();
        byol_head made = byol_head();
        if (byol_trainer_imprint(raw(), scale, &made, &why) != BYOL_OK)
            return byol::error(why);
        return head(made);
    }

private:
    static result<trainer> create_raw(byol_encoder of, std::uint32_t dimension) noexcept
    {
        byol_error why = make<byol_error>();
        byol_trainer raw = byol_trainer();
        if (byol_trainer_create(of, dimension, &raw, &why) != BYOL_OK)
            return byol::error(why);
        return trainer(raw);
    }
    template <class Run>
    result<std::vector<std::uint64_t>> added(std::size_t count, span<const std::uint32_t> labels,
                                             span<byol_status> statuses, Run run)
    {
        byol_error why = make<byol_error>();
        if (labels.size() != count || (!statuses.empty() && statuses.size() != count))
            return detail::sizes("There must be one label and one status per picture");
        std::vector<std::uint64_t> ids(count);
        if (run(ids.data(), &why) != BYOL_OK)
            return byol::error(why);
        return result<std::vector<std::uint64_t>>(std::move(ids));
    }
};

} // namespace byol

#endif /* BYOL_HPP */
