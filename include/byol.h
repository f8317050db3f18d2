/*
 * libbyol: pictures in, features and classes out. Version 0.1.0.
 *
 * Generated from src/ffi, don't edit: `BYOL_BLESS=1 cargo test --test header`.
 * A whole program that uses it: examples/c/classify.c.
 *
 * What holds for every function, unless its own comment says otherwise:
 *
 * - Results. Functions that can fail return a byol_status. Their last parameter may be NULL, or a byol_error that then
 *   says more. Outputs are written only on success (*needed is also written with BYOL_E_BUFFER_TOO_SMALL).
 * - Handles are numbers in a struct, never pointers. A handle that is 0, closed, of another kind or made up gives
 *   BYOL_E_HANDLE. Handles may be closed while other threads use them: those calls finish. Closing {0} does nothing.
 * - Pointers must not be NULL unless the comment says they may; a NULL then gives BYOL_E_NULL_POINTER. A NULL array is
 *   fine where its count is 0. libbyol keeps no pointer after a call returns, except byol_set_log_sink's.
 * - Memory that libbyol allocates never crosses this interface: the caller brings the buffers, and frees nothing.
 * - Structs begin with struct_size. Start them with their BYOL_..._INIT macro or byol_..._init function. Later versions
 *   append fields; a field that the library does not know must be 0, or the call fails with BYOL_E_ABI.
 * - Texts and paths are NUL-terminated UTF-8 on all systems. Numbers that choose something (BYOL_FORMAT_*, ...) are
 *   checked. Rows are counted from 0.
 * - Threads. Every function may be called from any thread at any time, with any handle. Callbacks run on the calling
 *   thread, except the log sink, which runs on whatever thread has something to say.
 * - fork. A child that was forked after the first call into libbyol gets BYOL_E_FORKED from every call. It should end
 *   by exec or _exit, as POSIX asks of children of programs with threads: exit runs ONNX Runtime's own destructors,
 *   which wait for threads that the child does not have.
 * - libbyol prints nothing, opens no socket, and reads no file but those it is given, ONNX Runtime's library and what
 *   the system tells about the processor. ONNX Runtime's official builds for Linux report to their maker
 *   unless ORT_DISABLE_TELEMETRY is set when they start; libbyol sets it to 1, in the process's environment, where it is
 *   not set (as setenv does: set it yourself before you start threads that read the environment). Where HOME is not set,
 *   ONNX Runtime may ask the system for the user's home folder.
 * - Memory. What the caller's sizes decide ends in BYOL_E_NO_MEMORY when it can't be had. When the process has none left
 *   even for small things, Rust ends it by abort, and ONNX Runtime may end it while it opens an encoder.
 *
 * In C++ the functions are C functions; none throws.
 */


#ifndef BYOL_H
#define BYOL_H

#include <stddef.h>
#include <stdint.h>

#define BYOL_VERSION_MAJOR 0
#define BYOL_VERSION_MINOR 1
#define BYOL_VERSION_PATCH 0
/** major * 1000000 + minor * 1000 + patch; the library's is byol_version(). */
#define BYOL_VERSION_NUMBER (BYOL_VERSION_MAJOR * 1000000 + BYOL_VERSION_MINOR * 1000 + BYOL_VERSION_PATCH)
#define BYOL_VERSION_STRING "0.1.0"

#if defined(_WIN32) && !defined(BYOL_STATIC)
#define BYOL_API __declspec(dllimport)
#else
#define BYOL_API
#endif

/* Warns where a result is dropped. */
#if defined(__GNUC__) || defined(__clang__)
#define BYOL_NODISCARD __attribute__((warn_unused_result))
#else
#define BYOL_NODISCARD
#endif


/**
 * Success.
 */
#define BYOL_OK 0

/**
 * An argument or option has a value that means nothing; the message names it.
 */
#define BYOL_E_INVALID_ARG 1

/**
 * A pointer that must not be NULL is NULL; the message names it.
 */
#define BYOL_E_NULL_POINTER 2

/**
 * A handle is closed, of another kind, or was never given out by this process.
 */
#define BYOL_E_HANDLE 3

/**
 * A struct_size is impossible, or a struct sets fields that this version of the library does not know.
 */
#define BYOL_E_ABI 4

/**
 * Not enough memory for something whose size the caller decides.
 */
#define BYOL_E_NO_MEMORY 5

/**
 * A file or folder can't be read or written.
 */
#define BYOL_E_IO 6

/**
 * A file, a metadata key or a class does not exist.
 */
#define BYOL_E_NOT_FOUND 7

/**
 * Asks for something that this build can't do.
 */
#define BYOL_E_UNSUPPORTED 8

/**
 * This processor lacks instructions that are needed.
 */
#define BYOL_E_UNSUPPORTED_CPU 9

/**
 * Not an ONNX model, or a damaged one.
 */
#define BYOL_E_MODEL_INVALID 10

/**
 * An ONNX model, but not one that can serve as an encoder; the message says why.
 */
#define BYOL_E_MODEL_UNSUPPORTED 11

/**
 * Sizes that must agree do not.
 */
#define BYOL_E_SHAPE 12

/**
 * A picture can't be decoded.
 */
#define BYOL_E_IMAGE_DECODE 13

/**
 * A stated limit is exceeded: picture, file or model size.
 */
#define BYOL_E_LIMIT 14

/**
 * The caller's buffer is too small; `*needed` or the message says how large it must be.
 */
#define BYOL_E_BUFFER_TOO_SMALL 15

/**
 * Labels and rows, or labels and classes, do not fit together.
 */
#define BYOL_E_LABEL 16

/**
 * A feature is NaN or infinite.
 */
#define BYOL_E_NON_FINITE 17

/**
 * There is nothing to learn from the examples: none, one class only, a class without examples, constant features.
 */
#define BYOL_E_DATA 18

/**
 * A file is not what it should be.
 */
#define BYOL_E_CORRUPT 19

/**
 * A file was written by a newer byol.
 */
#define BYOL_E_NEWER_FORMAT 20

/**
 * Stopped by a cancel token or by a progress callback.
 */
#define BYOL_E_CANCELLED 21

/**
 * Stopped at the deadline that the caller set.
 */
#define BYOL_E_DEADLINE 22

/**
 * The process already runs ONNX Runtime with other settings.
 */
#define BYOL_E_BUSY_CONFIG 23

/**
 * The process was forked after it first used libbyol: in the child the library can't work.
 */
#define BYOL_E_FORKED 24

/**
 * ONNX Runtime failed, or can't be loaded; runtime_code holds its own code where it gave one.
 */
#define BYOL_E_RUNTIME 25

/**
 * A defect in libbyol was caught; the process goes on. Please report the message.
 */
#define BYOL_E_PANIC 26

/**
 * byol_shutdown was called.
 */
#define BYOL_E_SHUTDOWN 27

/**
 * The head was trained on the features of another encoder.
 */
#define BYOL_E_WRONG_ENCODER 28

/**
 * The objective has no minimum: l2 is 0 and the classes can be told apart without error.
 */
#define BYOL_E_NO_OPTIMUM 29

/**
 * The solver ran out of iterations before the tolerance was met.
 */
#define BYOL_E_NOT_CONVERGED 30

/**
 * A callback called a function that must not be called from that callback.
 */
#define BYOL_E_REENTRANT 31

/**
 * A model's SHA-256 is not the one that was asked for.
 */
#define BYOL_E_CHECKSUM 32

/**
 * A failure that this version has no code for; the message says what it was.
 */
#define BYOL_E_OTHER 33

/**
 * Value of byol_error.item_index when no single item is to blame.
 */
#define BYOL_NO_ITEM UINT32_MAX

/**
 * The longest message in bytes, with its NUL.
 */
#define BYOL_MESSAGE_BYTES 488

/**
 * Log level: nothing.
 */
#define BYOL_LOG_OFF 0

/**
 * Log level: failures, each with its full message.
 */
#define BYOL_LOG_ERROR 1

/**
 * Log level: also what was loaded from where.
 */
#define BYOL_LOG_INFO 2

/**
 * Kind of handle for byol_live_handles: all of them together.
 */
#define BYOL_KIND_ANY 0

/**
 * Kind of handle: byol_runtime.
 */
#define BYOL_KIND_RUNTIME 1

/**
 * Kind of handle: byol_encoder.
 */
#define BYOL_KIND_ENCODER 2

/**
 * Kind of handle: byol_head.
 */
#define BYOL_KIND_HEAD 3

/**
 * Kind of handle: byol_cancel.
 */
#define BYOL_KIND_CANCEL 4

/**
 * Kind of handle: byol_features.
 */
#define BYOL_KIND_FEATURES 5

/**
 * Kind of handle: byol_trainer.
 */
#define BYOL_KIND_TRAINER 6

/**
 * Flag of a source: tensors that the model keeps in further files may be read, from regular files in the model's own
 * folder, links included; only with path. Without it such a model is refused. The encoder's SHA-256 is then that of
 * the model with all its tensors inside, byol_source.sha256 that of the model's own file.
 */
#define BYOL_SOURCE_EXTERNAL_DATA 1

/**
 * Element type of a tensor: one that libbyol does not take.
 */
#define BYOL_TENSOR_OTHER 0

/**
 * Element type of a tensor: pixels of 0 to 255, as [n, height, width, channels].
 */
#define BYOL_TENSOR_U8 1

/**
 * Element type of a tensor: normalised values, as [n, channels, height, width].
 */
#define BYOL_TENSOR_F32 2

/**
 * Resize rule: to exactly the input's size.
 */
#define BYOL_RESIZE_STRETCH 1

/**
 * Resize rule: the short side to resize_size pixels, then the centre is cut out.
 */
#define BYOL_RESIZE_SHORT_SIDE 2

/**
 * Resize filter: triangle, antialiased.
 */
#define BYOL_FILTER_BILINEAR 1

/**
 * Resize filter: cubic with a = -0.5, antialiased.
 */
#define BYOL_FILTER_BICUBIC 2

/**
 * Pixel format: 1 byte, luminance.
 */
#define BYOL_FORMAT_GRAY8 1

/**
 * Pixel format: 3 bytes, red, green, blue.
 */
#define BYOL_FORMAT_RGB8 2

/**
 * Pixel format: 3 bytes, blue, green, red.
 */
#define BYOL_FORMAT_BGR8 3

/**
 * Pixel format: 4 bytes, red, green, blue, alpha; alpha is ignored.
 */
#define BYOL_FORMAT_RGBA8 4

/**
 * Pixel format: 4 bytes, blue, green, red, alpha; alpha is ignored.
 */
#define BYOL_FORMAT_BGRA8 5

/**
 * Pixel format: 4 bytes, red, green, blue, and one without meaning.
 */
#define BYOL_FORMAT_RGBX8 6

/**
 * Pixel format: luminance of 16 bits in the machine's byte order; data may lie at any address.
 */
#define BYOL_FORMAT_GRAY16 7

/**
 * Pixel format: red, green, blue of 16 bits each in the machine's byte order; data may lie at any address.
 */
#define BYOL_FORMAT_RGB16 8

/**
 * Pixel format: red, green, blue as float from 0 to 1; what lies beyond is cut off, NaN and infinity are refused. Data
 * may lie at any address.
 */
#define BYOL_FORMAT_RGBF32 9

/**
 * Pixel format: as BYOL_FORMAT_RGBF32, in three planes of stride * height bytes one behind the other: red, green, blue.
 */
#define BYOL_FORMAT_RGBF32_PLANAR 10

/**
 * Pixel format: YCbCr 4:2:0 of cameras and video, BT.601 in video range: height rows of luma (16 to 235), then
 * (height + 1) / 2 rows, also stride bytes apart, of pairs of Cb and Cr for 2 x 2 pixels each.
 */
#define BYOL_FORMAT_NV12 11

/**
 * Pixel format: as BYOL_FORMAT_NV12, in full range (0 to 255), as in JPEG.
 */
#define BYOL_FORMAT_NV12_FULL 12

/**
 * Alpha: the colours are not multiplied by it; they are taken as they are, as when a file is decoded.
 */
#define BYOL_ALPHA_STRAIGHT 0

/**
 * Alpha: the colours are multiplied by it, and divided before they are used.
 */
#define BYOL_ALPHA_PREMULTIPLIED 1

/**
 * Element type of features: float.
 */
#define BYOL_ELEMENT_F32 0

/**
 * Element type of features: IEEE 754 half precision, 2 bytes in the machine's order. Relative error at most 2^-11;
 * values beyond 65504 become 65504.
 */
#define BYOL_ELEMENT_F16 1

/**
 * Element type of features: int8_t from -127 to 127 with one float per row, its scale: value = element * scale. The
 * scale is a 127th of the row's largest absolute value, the error at most half a scale.
 */
#define BYOL_ELEMENT_I8 2

/**
 * In place of a class: none was probable enough.
 */
#define BYOL_NO_CLASS UINT32_MAX

/**
 * Penalties that a search tries by itself.
 */
#define BYOL_SEARCH_PENALTIES 13

/**
 * Why a call failed. It lives where the caller puts it, usually on the stack: nothing to free, no thread-local state.
 * Start it with BYOL_ERROR_INIT or byol_error_init and pass it to as many calls as you like, one at a time: each call
 * sets all of it, to zeros and an empty message when it succeeds. Every function takes NULL instead.
 */
typedef struct byol_error {
    /**
     * sizeof(byol_error); the only field that the caller sets.
     */
    uint32_t struct_size;
    /**
     * The status that the call returned.
     */
    int32_t code;
    /**
     * ONNX Runtime's own error code with BYOL_E_RUNTIME, where there is one; else 0.
     */
    int32_t runtime_code;
    /**
     * Which picture, file or row is to blame, counted from 0; BYOL_NO_ITEM when none is.
     */
    uint32_t item_index;
    /**
     * Length of message in bytes, without its NUL.
     */
    uint32_t message_len;
    /**
     * One sentence in UTF-8 that names the culprit, always NUL-terminated, cut between two characters if too long. The
     * log sink receives it uncut.
     */
    char message[488];
} byol_error;

/**
 * What every fallible function returns: 0 is success, everything else one of BYOL_E_*. Codes are stable: a code keeps
 * its number for ever, and the number of a retired code is not used again. Expect codes that are newer than your header.
 */
typedef int32_t byol_status;

/**
 * Receives a message: its level, and a NUL-terminated UTF-8 text that is gone when the callback returns. It runs on
 * the thread that has something to say, at times on several at once. It must return (no exception, no longjmp). What
 * it causes libbyol to say is dropped.
 */
typedef void (*byol_log_callback)(void *user, uint32_t level, const char *message);

/**
 * Called once with `user` when a callback and its `user` are not needed any more.
 */
typedef void (*byol_drop_callback)(void *user);

/**
 * A token that long calls look at every few milliseconds. Pass `{0}` for none. One token may go with many calls.
 */
typedef struct byol_cancel {
    /**
     * 0 for none.
     */
    uint64_t id;
} byol_cancel;

/**
 * How to start ONNX Runtime. Start with BYOL_RUNTIME_OPTIONS_INIT.
 */
typedef struct byol_runtime_options {
    /**
     * sizeof(byol_runtime_options).
     */
    uint32_t struct_size;
    /**
     * Threads for all encoders together, the calling thread included; 0 takes what the process may use (affinity and
     * cgroup).
     */
    uint32_t threads;
    /**
     * The ONNX Runtime library, or the folder it lies in, in UTF-8. NULL looks for it: in the environment variable
     * BYOL_ONNXRUNTIME, in the folders of libbyol and of the program, at last where the system's loader looks.
     */
    const char *library;
    /**
     * Most bytes that libbyol itself may hold, ONNX Runtime's not counted; 0 for no limit. What the caller's sizes
     * decide (examples, features, models and pictures that are read) fails with BYOL_E_LIMIT beyond it. Once set it
     * stays.
     */
    uint64_t max_memory;
} byol_runtime_options;

/**
 * ONNX Runtime, started with certain settings. There is one per process; handles share it.
 */
typedef struct byol_runtime {
    /**
     * 0 for the default.
     */
    uint64_t id;
} byol_runtime;

/**
 * What libbyol does and holds, in this process since it started. Set struct_size (BYOL_RUNTIME_STATS_INIT), the library
 * fills in the rest.
 */
typedef struct byol_runtime_stats {
    /**
     * sizeof(byol_runtime_stats).
     */
    uint32_t struct_size;
    /**
     * Threads that all encoders share; 0 before ONNX Runtime is started.
     */
    uint32_t threads;
    /**
     * Calls of functions that return a status.
     */
    uint64_t calls;
    /**
     * Those of them that failed.
     */
    uint64_t failures;
    /**
     * Pictures whose features were asked for, bad ones included.
     */
    uint64_t pictures;
    /**
     * Bytes that libbyol has allocated now, ONNX Runtime's not counted: examples, features, heads, pictures in work.
     */
    uint64_t held_bytes;
    /**
     * The most that held_bytes ever was.
     */
    uint64_t held_peak;
    /**
     * The limit on held_bytes; 0 for none.
     */
    uint64_t max_memory;
    /**
     * Bytes of the whole process that are in memory now; 0 where the system does not say (Linux does).
     */
    uint64_t resident_bytes;
    /**
     * The most that resident_bytes ever was.
     */
    uint64_t resident_peak;
} byol_runtime_stats;

/**
 * Gives the next bytes of a model: writes at most `capacity` of them to `buffer` and returns how many, 0 at the end.
 * Below 0 the call fails with BYOL_E_IO. For files that are encrypted, packed or elsewhere. It runs on the calling
 * thread and must return (no exception, no longjmp).
 */
typedef int64_t (*byol_read_callback)(void *user, uint8_t *buffer, size_t capacity);

/**
 * An ONNX file: on disk, in memory, or from a function. Start with BYOL_SOURCE_INIT and set one of path, data with
 * data_len, and read with user.
 */
typedef struct byol_source {
    /**
     * sizeof(byol_source).
     */
    uint32_t struct_size;
    /**
     * BYOL_SOURCE_* together, or 0.
     */
    uint32_t flags;
    /**
     * Path in UTF-8, or NULL.
     */
    const char *path;
    /**
     * The file's bytes, or NULL. They are not needed after the call.
     */
    const uint8_t *data;
    /**
     * Number of bytes at data.
     */
    size_t data_len;
    /**
     * The SHA-256 that the file must have, 64 hexadecimal digits, or NULL for any.
     */
    const char *sha256;
    /**
     * Gives the file's bytes, or NULL. It is called during the call only, so that there is nothing to give back.
     */
    byol_read_callback read;
    /**
     * What read gets as its first argument.
     */
    void *user;
} byol_source;

/**
 * What a model file says of itself. Set struct_size (BYOL_MODEL_INFO_INIT), the library fills in the rest. Texts are
 * NUL-terminated UTF-8, cut if too long. A size is 0 where the model leaves it open.
 */
typedef struct byol_model_info {
    /**
     * sizeof(byol_model_info).
     */
    uint32_t struct_size;
    /**
     * BYOL_TENSOR_* of the first input.
     */
    uint32_t input_type;
    /**
     * Channels of the first input.
     */
    uint32_t channels;
    /**
     * Height of the first input.
     */
    uint32_t height;
    /**
     * Width of the first input.
     */
    uint32_t width;
    /**
     * Features per picture of the first output.
     */
    uint32_t dimension;
    /**
     * 1 when the file says how pictures become input, else 0.
     */
    uint32_t has_contract;
    /**
     * 1 when it keeps tensors in other files, else 0. Such a model needs BYOL_SOURCE_EXTERNAL_DATA to be opened.
     */
    uint32_t has_external_data;
    /**
     * Number of operators.
     */
    uint64_t nodes;
    /**
     * Version of the operator set.
     */
    int64_t opset;
    /**
     * SHA-256 of the file, hexadecimal.
     */
    char sha256[72];
    /**
     * Program that wrote the file.
     */
    char producer[128];
    /**
     * Name of the first input.
     */
    char input_name[128];
    /**
     * Name of the first output.
     */
    char output_name[128];
} byol_model_info;

/**
 * How a picture becomes an encoder's input, for a model file that does not say so itself. Start with
 * BYOL_CONTRACT_INIT, then set every field.
 */
typedef struct byol_contract {
    /**
     * sizeof(byol_contract).
     */
    uint32_t struct_size;
    /**
     * Input channels: 1 (gray) or 3 (red, green, blue).
     */
    uint32_t channels;
    /**
     * Input height in pixels.
     */
    uint32_t height;
    /**
     * Input width in pixels.
     */
    uint32_t width;
    /**
     * BYOL_RESIZE_*.
     */
    uint32_t resize;
    /**
     * Pixels of the short side with BYOL_RESIZE_SHORT_SIDE, else 0.
     */
    uint32_t resize_size;
    /**
     * BYOL_FILTER_*.
     */
    uint32_t filter;
    /**
     * Must be 0.
     */
    uint32_t flags;
    /**
     * Mean of each channel, of values scaled to 0 to 1.
     */
    float mean[4];
    /**
     * Standard deviation of each channel, of values scaled to 0 to 1.
     */
    float deviation[4];
} byol_contract;

/**
 * How to open an encoder. Start with BYOL_ENCODER_OPTIONS_INIT; 0 and NULL stand for the defaults.
 */
typedef struct byol_encoder_options {
    /**
     * sizeof(byol_encoder_options).
     */
    uint32_t struct_size;
    /**
     * Calls that may be inferred at the same time, each with its own copy of the weights; 0 is 1, which uses all
     * threads for one call at a time. Further calls wait their turn. At most 256.
     */
    uint32_t sessions;
    /**
     * Largest model file that is read, in bytes; 0 is 2 GiB.
     */
    uint64_t max_model_bytes;
    /**
     * Largest picture that is decoded, in pixels; 0 is 100 million.
     */
    uint64_t max_image_pixels;
    /**
     * Largest picture file that is read, in bytes; 0 is 256 MiB.
     */
    uint64_t max_image_bytes;
    /**
     * How pictures become input; overrides the file. NULL takes what the file says.
     */
    const struct byol_contract *contract;
    /**
     * Name of the output that holds the features; NULL takes "features", or else the first float32 output.
     */
    const char *output;
} byol_encoder_options;

/**
 * What an open encoder is. Set struct_size (BYOL_ENCODER_INFO_INIT), the library fills in the rest.
 */
typedef struct byol_encoder_info {
    /**
     * sizeof(byol_encoder_info).
     */
    uint32_t struct_size;
    /**
     * Features per picture.
     */
    uint32_t dimension;
    /**
     * Calls that may be inferred at the same time.
     */
    uint32_t sessions;
    /**
     * Threads that all encoders share.
     */
    uint32_t threads;
    /**
     * Input channels.
     */
    uint32_t channels;
    /**
     * Input height in pixels.
     */
    uint32_t height;
    /**
     * Input width in pixels.
     */
    uint32_t width;
    /**
     * BYOL_RESIZE_*.
     */
    uint32_t resize;
    /**
     * Pixels of the short side with BYOL_RESIZE_SHORT_SIDE, else 0.
     */
    uint32_t resize_size;
    /**
     * BYOL_FILTER_*.
     */
    uint32_t filter;
    /**
     * Mean of each of the first four channels.
     */
    float mean[4];
    /**
     * Standard deviation of each of the first four channels.
     */
    float deviation[4];
    /**
     * SHA-256 of the file, hexadecimal, NUL-terminated.
     */
    char sha256[72];
} byol_encoder_info;

/**
 * An opened model that turns pictures into features.
 */
typedef struct byol_encoder {
    /**
     * 0 for none.
     */
    uint64_t id;
} byol_encoder;

/**
 * Pixels in the caller's memory, read in place. Start with BYOL_IMAGE_INIT. In an array, every element has the same
 * struct_size.
 */
typedef struct byol_image {
    /**
     * sizeof(byol_image).
     */
    uint32_t struct_size;
    /**
     * BYOL_FORMAT_*.
     */
    uint32_t format;
    /**
     * Width in pixels, 1 to 65535.
     */
    uint32_t width;
    /**
     * Height in pixels, 1 to 65535.
     */
    uint32_t height;
    /**
     * Bytes from one row to the next; 0 for rows without gaps.
     */
    size_t stride;
    /**
     * The first pixel of the first row.
     */
    const uint8_t *data;
    /**
     * Number of bytes at data; at least stride * (rows - 1) + the bytes of a row, with the rows of all planes.
     */
    size_t data_len;
    /**
     * BYOL_ALPHA_*, for formats that have one.
     */
    uint32_t alpha;
    /**
     * How the picture has to be mirrored and turned to stand upright, as EXIF numbers it, 1 to 8: 6 is a quarter
     * clockwise, 3 a half, 8 a quarter the other way. 0 is 1: as it lies.
     */
    uint32_t orientation;
    /**
     * Left edge of the part that counts, in pixels, before orientation.
     */
    uint32_t region_x;
    /**
     * Upper edge of the part that counts.
     */
    uint32_t region_y;
    /**
     * Width of the part that counts; 0, with a region_height of 0, for the whole picture.
     */
    uint32_t region_width;
    /**
     * Height of the part that counts; 0, with a region_width of 0, for the whole picture.
     */
    uint32_t region_height;
} byol_image;

/**
 * What the header of an encoded picture says. Set struct_size (BYOL_IMAGE_INFO_INIT), the library fills in the rest.
 */
typedef struct byol_image_info {
    /**
     * sizeof(byol_image_info).
     */
    uint32_t struct_size;
    /**
     * Width in pixels, once it stands upright.
     */
    uint32_t width;
    /**
     * Height in pixels, once it stands upright.
     */
    uint32_t height;
    /**
     * 1 (gray) or 3 (red, green, blue).
     */
    uint32_t channels;
    /**
     * Bits of a channel in the file.
     */
    uint32_t bits;
    /**
     * 1 when the file has an alpha channel, which is ignored, else 0.
     */
    uint32_t has_alpha;
    /**
     * EXIF orientation, 1 to 8, which byol_extract_encoded obeys; 1 where the file says nothing.
     */
    uint32_t orientation;
    /**
     * "jpeg", "png", "webp", "bmp", "gif" or "tiff".
     */
    char format[16];
} byol_image_info;

/**
 * How to extract. Start with BYOL_EXTRACT_OPTIONS_INIT.
 */
typedef struct byol_extract_options {
    /**
     * sizeof(byol_extract_options).
     */
    uint32_t struct_size;
    /**
     * Must be 0.
     */
    uint32_t flags;
    /**
     * BYOL_ELEMENT_*: other than BYOL_ELEMENT_F32 (0), the features go to packed, without gaps between rows, and not to
     * the call's features, which may then be NULL with any row_stride and features_len.
     */
    uint32_t element;
    /**
     * Must be 0.
     */
    uint32_t reserved;
    /**
     * Where packed features go, or NULL.
     */
    void *packed;
    /**
     * Bytes at packed.
     */
    size_t packed_len;
    /**
     * Gets one float per row with BYOL_ELEMENT_I8, or NULL.
     */
    float *scales;
} byol_extract_options;

/**
 * What a head is. Set struct_size (BYOL_HEAD_INFO_INIT), the library fills in the rest.
 */
typedef struct byol_head_info {
    /**
     * sizeof(byol_head_info).
     */
    uint32_t struct_size;
    /**
     * Number of classes.
     */
    uint32_t classes;
    /**
     * Features per picture that it takes.
     */
    uint32_t dimension;
    /**
     * 1 when its fit met the tolerance, else 0.
     */
    uint32_t converged;
    /**
     * Examples that it was fitted on; 0 if it is not known.
     */
    uint64_t examples;
    /**
     * Penalty that it was fitted with; 0 if it is not known.
     */
    double l2;
    /**
     * SHA-256 of the file of the encoder whose features it takes, hexadecimal, NUL-terminated; empty if it is not known.
     */
    char encoder_sha256[72];
    /**
     * What the scores were divided by, by byol_head_calibrate; 1 where they were not.
     */
    double temperature;
} byol_head_info;

/**
 * A linear classifier of features.
 */
typedef struct byol_head {
    /**
     * 0 for none.
     */
    uint64_t id;
} byol_head;

/**
 * How to fit a head. Start with BYOL_FIT_OPTIONS_INIT, which sets the defaults.
 */
typedef struct byol_fit_options {
    /**
     * sizeof(byol_fit_options).
     */
    uint32_t struct_size;
    /**
     * Most iterations (default 1000). Reaching them is no error: the report's converged is then 0.
     */
    uint32_t max_iterations;
    /**
     * Penalty per example on the squared weights, at least 0 (default 1e-3): the objective is the mean cross-entropy
     * plus l2 / 2 times the sum of the squared weights. scikit-learn's C is 1 / (l2 * rows).
     */
    double l2;
    /**
     * Certified relative distance from the optimum to stop at (default 1e-6).
     */
    double tolerance;
    /**
     * Threads, 0 for as many as the process may use. The result does not depend on it, bit for bit.
     */
    uint32_t threads;
    /**
     * 1 to penalise as if every column had standard deviation 1, else 0 (default). A head always takes features as the
     * encoder gives them.
     */
    uint32_t standardize;
    /**
     * One factor per class for the weight of its examples, or NULL.
     */
    const float *class_weights;
    /**
     * One weight per row, at least 0, or NULL.
     */
    const float *sample_weights;
    /**
     * Number of floats at class_weights; another number than that of the classes is refused with SHAPE. 0 (default) takes
     * one per class for granted, which is only safe where no other thread adds classes.
     */
    size_t class_weights_len;
} byol_fit_options;

/**
 * How a fit went. Set struct_size (BYOL_FIT_REPORT_INIT), the library fills in the rest.
 */
typedef struct byol_fit_report {
    /**
     * sizeof(byol_fit_report).
     */
    uint32_t struct_size;
    /**
     * 1 when the tolerance was met, else 0.
     */
    uint32_t converged;
    /**
     * Iterations done.
     */
    uint64_t iterations;
    /**
     * Passes over all rows.
     */
    uint64_t passes;
    /**
     * Value of the objective at the end.
     */
    double objective;
    /**
     * Proven: (objective - optimum) / optimum is at most this. -1 where nothing can be proven (l2 0).
     */
    double gap;
    /**
     * The penalty.
     */
    double l2;
    /**
     * Wall time.
     */
    double seconds;
} byol_fit_report;

/**
 * Hears from a fit after every iteration: how many are done, the objective, and the proven relative distance from the
 * optimum (infinite while nothing is proven). Returns 0 to go on; anything else ends the fit with BYOL_E_CANCELLED. It
 * runs on the thread that called for the fit and must return (no exception, no longjmp).
 */
typedef int32_t (*byol_fit_callback)(void *user, uint64_t iteration, double objective, double gap);

/**
 * What a labelled set says about a head. Set struct_size (BYOL_METRICS_INIT), the library fills in the rest.
 */
typedef struct byol_metrics {
    /**
     * sizeof(byol_metrics).
     */
    uint32_t struct_size;
    /**
     * Number of classes.
     */
    uint32_t classes;
    /**
     * Number of examples.
     */
    uint64_t examples;
    /**
     * Share of examples whose most probable class is theirs.
     */
    double top1;
    /**
     * Share of examples whose class is among the five most probable.
     */
    double top5;
    /**
     * Mean share over the classes that occur.
     */
    double balanced;
    /**
     * Mean of minus the natural logarithm of the probability of the right class.
     */
    double log_loss;
    /**
     * Expected calibration error, over 15 equal bins of confidence.
     */
    double calibration_error;
    /**
     * Lower end of the 95% interval of top1 (Wilson).
     */
    double top1_low;
    /**
     * Upper end of the 95% interval of top1 (Wilson).
     */
    double top1_high;
} byol_metrics;

/**
 * What a container holds. Set struct_size (BYOL_FEATURES_INFO_INIT), the library fills in the rest.
 */
typedef struct byol_features_info {
    /**
     * sizeof(byol_features_info).
     */
    uint32_t struct_size;
    /**
     * Features per row.
     */
    uint32_t dimension;
    /**
     * Number of rows.
     */
    uint64_t rows;
    /**
     * Number of classes that have names.
     */
    uint32_t classes;
    /**
     * 1 when the rows have labels, else 0.
     */
    uint32_t has_labels;
    /**
     * 1 when the rows have names, else 0.
     */
    uint32_t has_names;
    /**
     * 1 when encoder_sha256 is known, else 0.
     */
    uint32_t has_encoder;
    /**
     * SHA-256 of the file of the encoder that made the features, hexadecimal, NUL-terminated; empty if it is not known.
     */
    char encoder_sha256[72];
} byol_features_info;

/**
 * Rows of features with what is known about each.
 */
typedef struct byol_features {
    /**
     * 0 for none.
     */
    uint64_t id;
} byol_features;

/**
 * What a trainer holds. Set struct_size (BYOL_TRAINER_INFO_INIT), the library fills in the rest.
 */
typedef struct byol_trainer_info {
    /**
     * sizeof(byol_trainer_info).
     */
    uint32_t struct_size;
    /**
     * Features per example.
     */
    uint32_t dimension;
    /**
     * Number of examples.
     */
    uint64_t examples;
    /**
     * Number of classes.
     */
    uint32_t classes;
    /**
     * 1 when it was fitted, so that byol_trainer_refit has a start, else 0.
     */
    uint32_t is_fitted;
    /**
     * SHA-256 of the file of the encoder whose features it takes, hexadecimal, NUL-terminated; empty if it is not known.
     */
    char encoder_sha256[72];
} byol_trainer_info;

/**
 * How to search for a penalty. Start with BYOL_SEARCH_OPTIONS_INIT, which sets the defaults.
 */
typedef struct byol_search_options {
    /**
     * sizeof(byol_search_options).
     */
    uint32_t struct_size;
    /**
     * 0 (default) judges penalties on a share of the examples that is held out; 2 or more by cross-validation in so many
     * folds, which takes that much longer and is surer with few examples.
     */
    uint32_t folds;
    /**
     * Without folds: ends once the loss has not fallen for so many penalties (default 3); 0 tries all of them.
     */
    uint32_t patience;
    /**
     * Must be 0.
     */
    uint32_t reserved;
    /**
     * Without folds: the share of every class that is held out, above 0 and at most 0.5 (default 0.2).
     */
    double held_out;
    /**
     * Decides which examples are held out.
     */
    uint64_t seed;
    /**
     * The penalties to try (as byol_fit_options.l2), in any order, or NULL for thirteen from 1 to 1e-6.
     */
    const double *penalties;
    /**
     * Number of penalties.
     */
    size_t penalties_len;
} byol_search_options;

/**
 * Examples with their classes, to be fitted again and again as they come and go. It holds features, not pictures.
 */
typedef struct byol_trainer {
    /**
     * 0 for none.
     */
    uint64_t id;
} byol_trainer;

/**
 * Hears from a search after every penalty (with folds: after every penalty of every fold): the penalty, the share of
 * right examples among those held out, and their mean cross-entropy. Returns 0 to go on; anything else ends the search
 * with BYOL_E_CANCELLED. It runs on the thread that called for the search and must return (no exception, no longjmp).
 */
typedef int32_t (*byol_search_callback)(void *user, double l2, double accuracy, double log_loss);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Sets `size` bytes at `error`, which is sizeof(byol_error) in the caller's header, to what BYOL_ERROR_INIT is.
 *
 * Does nothing when `error` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any. Errors:
 * none. @since 0.1.0
 */
BYOL_API void byol_error_init(struct byol_error *error, size_t size);

/**
 * The library's version as one number, as BYOL_VERSION_NUMBER is the header's: major * 1000000 + minor * 1000 + patch.
 *
 * Ownership: nothing changes hands. Threads: any. Errors: none. @since 0.1.0
 */
BYOL_API uint32_t byol_version(void);

/**
 * The library's version as text, such as "0.1.0".
 *
 * Ownership: static, never freed. Threads: any. Errors: none. @since 0.1.0
 */
BYOL_API const char *byol_version_string(void);

/**
 * Checks that this library can serve a program that was compiled with the header of version `major`.`minor`: pass
 * BYOL_VERSION_MAJOR and BYOL_VERSION_MINOR. It can when the major versions are equal and the library is not older.
 *
 * Ownership: nothing changes hands. Threads: any. Errors: ABI. @since 0.1.0
 */
BYOL_API BYOL_NODISCARD byol_status byol_abi_check(uint32_t major, uint32_t minor, struct byol_error *error);

/**
 * Writes what this library is and runs on, as one JSON object: version, target, processor, picture formats, and, once
 * it is loaded, ONNX Runtime's version, file and threads.
 *
 * As all functions that give a text: `*needed` (may be NULL) becomes its length with the NUL; `buffer` NULL with
 * `capacity` 0 only asks for that; a short buffer is left alone.
 *
 * Ownership: `buffer` is the caller's. Threads: any. Errors: NULL_POINTER, BUFFER_TOO_SMALL. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_build_info(char *buffer,
                            size_t capacity,
                            size_t *needed,
                            struct byol_error *error);

/**
 * The name of a status, such as "BYOL_E_HANDLE"; "BYOL_E_?" for one that this library does not know.
 *
 * Ownership: static, never freed. Threads: any. Errors: none. @since 0.1.0
 */
BYOL_API const char *byol_status_name(byol_status status);

/**
 * 1 when the same call may succeed later without any change by the caller (memory, files, time), else 0.
 *
 * Ownership: nothing changes hands. Threads: any. Errors: none. @since 0.1.0
 */
BYOL_API int32_t byol_status_is_retryable(byol_status status);

/**
 * How many handles of a kind (BYOL_KIND_*) are open; 0 for an unknown kind. For tests that look for leaks.
 *
 * Ownership: nothing changes hands. Threads: any. Errors: none; 0 in a forked child. @since 0.1.0
 */
BYOL_API uint64_t byol_live_handles(uint32_t kind);

/**
 * Closes every handle and the log sink; every later call but those about versions and statuses fails with
 * BYOL_E_SHUTDOWN. For hosts that want to see an end; nobody needs to call it. Calls that still run finish, and what
 * they use stays until then. ONNX Runtime stays loaded, because unloading it is not safe. A second call does nothing.
 *
 * Ownership: nothing changes hands. Threads: any, but not from inside the log callback. Errors: REENTRANT.
 * @since 0.1.0
 */
BYOL_API BYOL_NODISCARD byol_status byol_shutdown(struct byol_error *error);

/**
 * Sends what libbyol has to say to `callback`; NULL for silence, which is how it starts.
 *
 * `level` is the most that is wanted: BYOL_LOG_OFF, BYOL_LOG_ERROR or BYOL_LOG_INFO. When the function returns, no
 * thread is inside the callback that was there before, and its `drop` (which may be NULL) has been called.
 *
 * Ownership: `user` is the library's from success until `drop` is called with it, once. When this call fails, `drop`
 * does not run, and `user` stays the caller's.
 * Threads: any, but not from inside the callback. Errors: INVALID_ARG, REENTRANT. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_set_log_sink(byol_log_callback callback,
                              void *user,
                              byol_drop_callback drop,
                              uint32_t level,
                              struct byol_error *error);

/**
 * Makes a cancel token. `timeout_ms` above 0 also sets a deadline that far from now: calls that run with the token
 * then end with BYOL_E_DEADLINE.
 *
 * Ownership: close the token with byol_cancel_close, at any time. Threads: any.
 * Errors: NULL_POINTER, LIMIT, NO_MEMORY. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_cancel_create(uint64_t timeout_ms,
                               struct byol_cancel *token,
                               struct byol_error *error);

/**
 * Stops all calls that run with the token, and those that come: they end with BYOL_E_CANCELLED, usually within
 * milliseconds, at the latest when the batch that is being computed is done.
 *
 * Ownership: nothing changes hands. Threads: any, but not from a signal handler: it takes a lock. Errors: HANDLE.
 * @since 0.1.0
 */
BYOL_API BYOL_NODISCARD byol_status byol_cancel_trigger(struct byol_cancel token, struct byol_error *error);

/**
 * Takes byol_cancel_trigger back, so that the token can be used again. A deadline stays.
 *
 * Ownership: nothing changes hands. Threads: any. Errors: HANDLE. @since 0.1.0
 */
BYOL_API BYOL_NODISCARD byol_status byol_cancel_reset(struct byol_cancel token, struct byol_error *error);

/**
 * Closes a token. Calls that run with it go on and can't be stopped through it any more. Closing `{0}` does nothing.
 *
 * Ownership: the handle is given back. Threads: any. Errors: HANDLE when it is closed already. @since 0.1.0
 */
BYOL_API byol_status byol_cancel_close(struct byol_cancel token, struct byol_error *error);

/**
 * Sets `size` bytes at `options`, which is sizeof(byol_runtime_options) in the caller's header, to what
 * BYOL_RUNTIME_OPTIONS_INIT is.
 *
 * Does nothing when `options` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any.
 * Errors: none. @since 0.1.0
 */
BYOL_API void byol_runtime_options_init(struct byol_runtime_options *options, size_t size);

/**
 * Starts ONNX Runtime with certain settings, or fails if it runs with others: a process has one.
 *
 * `options` may be NULL for the defaults, which fit whatever runs.
 *
 * Ownership: close the handle with byol_runtime_close at any time; encoders keep what they need. Threads: any.
 * Errors: NULL_POINTER, ABI, INVALID_ARG, RUNTIME (message: every place that was tried), BUSY_CONFIG. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_runtime_create(const struct byol_runtime_options *options,
                                struct byol_runtime *runtime,
                                struct byol_error *error);

/**
 * Sets `size` bytes at `stats`, which is sizeof(byol_runtime_stats) in the caller's header, to what
 * BYOL_RUNTIME_STATS_INIT is.
 *
 * Does nothing when `stats` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any.
 * Errors: none. @since 0.1.0
 */
BYOL_API void byol_runtime_stats_init(struct byol_runtime_stats *stats, size_t size);

/**
 * Tells what libbyol has done and holds. On Linux it reads /proc/self/statm for that. ONNX Runtime is not started.
 *
 * Ownership: `stats` is the caller's. Threads: any. Errors: NULL_POINTER, ABI. @since 0.1.0
 */
BYOL_API BYOL_NODISCARD byol_status byol_runtime_get_stats(struct byol_runtime_stats *stats, struct byol_error *error);

/**
 * Gives memory that nobody holds any more back to the system, where the C library can be told to (glibc can; elsewhere
 * this does nothing). For hosts that did something large once. Encoders keep their memory until they are closed.
 *
 * Ownership: nothing changes hands. Threads: any; other threads that allocate may wait for it. Errors: SHUTDOWN,
 * FORKED. @since 0.1.0
 */
BYOL_API BYOL_NODISCARD byol_status byol_runtime_trim(struct byol_error *error);

/**
 * Closes a runtime handle. ONNX Runtime itself stays. Closing `{0}` does nothing.
 *
 * Ownership: the handle is given back. Threads: any. Errors: HANDLE when it is closed already. @since 0.1.0
 */
BYOL_API byol_status byol_runtime_close(struct byol_runtime runtime, struct byol_error *error);

/**
 * Sets `size` bytes at `source`, which is sizeof(byol_source) in the caller's header, to what BYOL_SOURCE_INIT is.
 *
 * Does nothing when `source` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any.
 * Errors: none. @since 0.1.0
 */
BYOL_API void byol_source_init(struct byol_source *source, size_t size);

/**
 * Sets `size` bytes at `info`, which is sizeof(byol_model_info) in the caller's header, to what BYOL_MODEL_INFO_INIT
 * is.
 *
 * Does nothing when `info` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any. Errors:
 * none. @since 0.1.0
 */
BYOL_API void byol_model_info_init(struct byol_model_info *info, size_t size);

/**
 * Reads what a model file says of itself. Nothing of it is run, and ONNX Runtime is not needed.
 *
 * Ownership: `source` and what it points to are only read during the call. Threads: any.
 * Errors: NULL_POINTER, ABI, INVALID_ARG, NOT_FOUND, IO, LIMIT, NO_MEMORY, CHECKSUM, MODEL_INVALID. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_model_inspect(const struct byol_source *source,
                               struct byol_model_info *info,
                               struct byol_error *error);

/**
 * Sets `size` bytes at `contract`, which is sizeof(byol_contract) in the caller's header, to what BYOL_CONTRACT_INIT
 * is.
 *
 * Does nothing when `contract` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any.
 * Errors: none. @since 0.1.0
 */
BYOL_API void byol_contract_init(struct byol_contract *contract, size_t size);

/**
 * Sets `size` bytes at `options`, which is sizeof(byol_encoder_options) in the caller's header, to what
 * BYOL_ENCODER_OPTIONS_INIT is.
 *
 * Does nothing when `options` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any.
 * Errors: none. @since 0.1.0
 */
BYOL_API void byol_encoder_options_init(struct byol_encoder_options *options, size_t size);

/**
 * Sets `size` bytes at `info`, which is sizeof(byol_encoder_info) in the caller's header, to what
 * BYOL_ENCODER_INFO_INIT is.
 *
 * Does nothing when `info` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any. Errors:
 * none. @since 0.1.0
 */
BYOL_API void byol_encoder_info_init(struct byol_encoder_info *info, size_t size);

/**
 * Opens a model file as an encoder.
 *
 * `runtime` may be `{0}`: then the default one is started, unless one runs already. `options` may be NULL.
 *
 * Ownership: close the handle with byol_encoder_close at any time; what `source` and `options` point to is not needed
 * after the call. Threads: any.
 * Errors: NULL_POINTER, HANDLE, ABI, INVALID_ARG, NOT_FOUND, IO, LIMIT, CHECKSUM, MODEL_INVALID, MODEL_UNSUPPORTED,
 * RUNTIME, BUSY_CONFIG, NO_MEMORY. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_encoder_open(struct byol_runtime runtime,
                              const struct byol_source *source,
                              const struct byol_encoder_options *options,
                              struct byol_encoder *encoder,
                              struct byol_error *error);

/**
 * Tells what an encoder is.
 *
 * Ownership: `info` is the caller's. Threads: any. Errors: NULL_POINTER, HANDLE, ABI. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_encoder_get_info(struct byol_encoder encoder,
                                  struct byol_encoder_info *info,
                                  struct byol_error *error);

/**
 * Writes the value of a key of the model file's metadata, such as "byol.input.size". Texts are given as by
 * byol_build_info.
 *
 * Ownership: `buffer` is the caller's. Threads: any.
 * Errors: NULL_POINTER, HANDLE, INVALID_ARG, NOT_FOUND, BUFFER_TOO_SMALL. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_encoder_get_metadata(struct byol_encoder encoder,
                                      const char *key,
                                      char *buffer,
                                      size_t capacity,
                                      size_t *needed,
                                      struct byol_error *error);

/**
 * Writes the name of the `index`-th key of the model file's metadata, in alphabetical order; NOT_FOUND behind the last.
 *
 * Ownership: `buffer` is the caller's. Threads: any.
 * Errors: NULL_POINTER, HANDLE, NOT_FOUND, BUFFER_TOO_SMALL. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_encoder_get_metadata_key(struct byol_encoder encoder,
                                          size_t index,
                                          char *buffer,
                                          size_t capacity,
                                          size_t *needed,
                                          struct byol_error *error);

/**
 * Closes an encoder. Calls that use it finish; its memory goes with the last of them. Closing `{0}` does nothing.
 *
 * Ownership: the handle is given back. Threads: any. Errors: HANDLE when it is closed already. @since 0.1.0
 */
BYOL_API byol_status byol_encoder_close(struct byol_encoder encoder, struct byol_error *error);

/**
 * Sets `size` bytes at `image`, which is sizeof(byol_image) in the caller's header, to what BYOL_IMAGE_INIT is.
 *
 * Does nothing when `image` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any. Errors:
 * none. @since 0.1.0
 */
BYOL_API void byol_image_init(struct byol_image *image, size_t size);

/**
 * Sets `size` bytes at `info`, which is sizeof(byol_image_info) in the caller's header, to what BYOL_IMAGE_INFO_INIT
 * is.
 *
 * Does nothing when `info` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any. Errors:
 * none. @since 0.1.0
 */
BYOL_API void byol_image_info_init(struct byol_image_info *info, size_t size);

/**
 * Reads the header of an encoded picture (JPEG, PNG, WebP, BMP, GIF, TIFF), given as the bytes of its file. Its pixels
 * are not decoded, so they may still turn out to be damaged; no limit on pixels is applied.
 *
 * Ownership: all memory is the caller's and only used during the call. Threads: any.
 * Errors: NULL_POINTER, ABI, IMAGE_DECODE. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_image_probe(const uint8_t *data,
                             size_t data_len,
                             struct byol_image_info *info,
                             struct byol_error *error);

/**
 * Sets `size` bytes at `options`, which is sizeof(byol_extract_options) in the caller's header, to what
 * BYOL_EXTRACT_OPTIONS_INIT is.
 *
 * Does nothing when `options` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any.
 * Errors: none. @since 0.1.0
 */
BYOL_API void byol_extract_options_init(struct byol_extract_options *options, size_t size);

/**
 * Computes the features of `count` pictures: those of picture i go to features[i * row_stride] and behind it, as many
 * as the encoder's dimension. What lies between the rows is left alone. They do not depend on what else is in the call.
 *
 * `row_stride` and `features_len` count floats; row_stride 0 is the dimension. `options` may be NULL, `token` `{0}`.
 * With `item_status` (one for each picture), a bad picture gets its status there, its row is left alone, the others
 * go on and the call succeeds; the log sink hears why. Without (NULL), the first bad picture fails the call and is
 * named in error.item_index. options.element asks for float16 or int8 in place of float.
 *
 * Ownership: all memory is the caller's and only used during the call; features must not overlap the pictures.
 * Threads: any; more calls at once than the encoder has sessions wait for each other.
 * Errors: NULL_POINTER, HANDLE, ABI, INVALID_ARG, SHAPE, IMAGE_DECODE, LIMIT, NON_FINITE, NO_MEMORY, RUNTIME,
 * CANCELLED, DEADLINE. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_extract(struct byol_encoder encoder,
                         const struct byol_image *images,
                         size_t count,
                         const struct byol_extract_options *options,
                         float *features,
                         size_t row_stride,
                         size_t features_len,
                         byol_status *item_status,
                         struct byol_cancel token,
                         struct byol_error *error);

/**
 * Computes the features of `count` encoded pictures (JPEG, PNG, WebP, BMP, GIF, TIFF), each the bytes of one file.
 * Otherwise as byol_extract; EXIF orientation is obeyed.
 *
 * Ownership: all memory is the caller's and only used during the call; features must not overlap the pictures.
 * Threads: any.
 * Errors: those of byol_extract. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_extract_encoded(struct byol_encoder encoder,
                                 const uint8_t *const *data,
                                 const size_t *lengths,
                                 size_t count,
                                 const struct byol_extract_options *options,
                                 float *features,
                                 size_t row_stride,
                                 size_t features_len,
                                 byol_status *item_status,
                                 struct byol_cancel token,
                                 struct byol_error *error);

/**
 * Computes the features of `count` picture files, whose paths are in UTF-8. Otherwise as byol_extract_encoded.
 *
 * Ownership: all memory is the caller's and only used during the call. Threads: any.
 * Errors: those of byol_extract, NOT_FOUND, IO. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_extract_files(struct byol_encoder encoder,
                               const char *const *paths,
                               size_t count,
                               const struct byol_extract_options *options,
                               float *features,
                               size_t row_stride,
                               size_t features_len,
                               byol_status *item_status,
                               struct byol_cancel token,
                               struct byol_error *error);

/**
 * Computes the features of `count` pictures that already have the input's size, without gaps: with BYOL_TENSOR_U8
 * pixels as [count, height, width, channels], with BYOL_TENSOR_F32 normalised values as [count, channels, height,
 * width] for a model that takes those. `values_len` is their number of bytes. Otherwise as byol_extract.
 *
 * Ownership: all memory is the caller's and only used during the call; features must not overlap values.
 * Threads: any.
 * Errors: NULL_POINTER, HANDLE, ABI, INVALID_ARG, SHAPE, MODEL_UNSUPPORTED, NON_FINITE, NO_MEMORY, RUNTIME, CANCELLED,
 * DEADLINE. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_extract_tensor(struct byol_encoder encoder,
                                const void *values,
                                size_t values_len,
                                uint32_t element,
                                size_t count,
                                const struct byol_extract_options *options,
                                float *features,
                                size_t row_stride,
                                size_t features_len,
                                struct byol_cancel token,
                                struct byol_error *error);

/**
 * Packs `rows` rows of `columns` features, `row_stride` floats apart (0 for columns), into `element`
 * (BYOL_ELEMENT_F16 or BYOL_ELEMENT_I8), without gaps: a half or a quarter of the memory, for features that are kept in
 * large numbers. `packed_len` counts bytes. `scales` gets one float per row with BYOL_ELEMENT_I8, and may be NULL else.
 * byol_extract does this by itself, where its options ask for it.
 *
 * Ownership: all memory is the caller's and only used during the call; outputs must not overlap features. Threads: any.
 * Errors: NULL_POINTER, INVALID_ARG, SHAPE, NON_FINITE (item_index: the row), BUFFER_TOO_SMALL. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_pack(const float *features,
                      size_t rows,
                      size_t columns,
                      size_t row_stride,
                      uint32_t element,
                      void *packed,
                      size_t packed_len,
                      float *scales,
                      struct byol_error *error);

/**
 * Unpacks rows that byol_pack or byol_extract packed, into rows `row_stride` floats apart (0 for columns).
 *
 * Ownership: all memory is the caller's and only used during the call; features must not overlap the inputs.
 * Threads: any.
 * Errors: NULL_POINTER, INVALID_ARG, SHAPE, BUFFER_TOO_SMALL (of features, or packed_len too small). @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_unpack(const void *packed,
                        size_t packed_len,
                        uint32_t element,
                        const float *scales,
                        size_t rows,
                        size_t columns,
                        float *features,
                        size_t row_stride,
                        size_t features_len,
                        struct byol_error *error);

/**
 * Sets `size` bytes at `info`, which is sizeof(byol_head_info) in the caller's header, to what BYOL_HEAD_INFO_INIT is.
 *
 * Does nothing when `info` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any. Errors:
 * none. @since 0.1.0
 */
BYOL_API void byol_head_info_init(struct byol_head_info *info, size_t size);

/**
 * Reads a head from a file (safetensors), whose path is in UTF-8, and checks every part of it.
 *
 * Ownership: close the handle with byol_head_close at any time. Threads: any.
 * Errors: NULL_POINTER, INVALID_ARG, NOT_FOUND, IO, LIMIT, CORRUPT, NEWER_FORMAT, NO_MEMORY. @since 0.1.0
 */
BYOL_API BYOL_NODISCARD byol_status byol_head_load(const char *path, struct byol_head *head, struct byol_error *error);

/**
 * Reads a head from the bytes of its file, as byol_head_load does.
 *
 * Ownership: `data` is only read during the call; close the handle with byol_head_close. Threads: any.
 * Errors: NULL_POINTER, CORRUPT, NEWER_FORMAT. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_head_load_bytes(const uint8_t *data,
                                 size_t data_len,
                                 struct byol_head *head,
                                 struct byol_error *error);

/**
 * Writes a head to a file, whole or not at all.
 *
 * Ownership: `path` is only read during the call. Threads: any.
 * Errors: NULL_POINTER, HANDLE, INVALID_ARG, NOT_FOUND (of the folder), IO. @since 0.1.0
 */
BYOL_API BYOL_NODISCARD byol_status byol_head_save(struct byol_head head, const char *path, struct byol_error *error);

/**
 * Writes a head into memory, as the bytes of its file. `*needed` (may be NULL) becomes their number; `buffer` NULL with
 * `capacity` 0 only asks for that; a short buffer is left alone.
 *
 * Ownership: `buffer` is the caller's. Threads: any. Errors: NULL_POINTER, HANDLE, BUFFER_TOO_SMALL. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_head_save_bytes(struct byol_head head,
                                 uint8_t *buffer,
                                 size_t capacity,
                                 size_t *needed,
                                 struct byol_error *error);

/**
 * Tells what a head is.
 *
 * Ownership: `info` is the caller's. Threads: any. Errors: NULL_POINTER, HANDLE, ABI. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_head_get_info(struct byol_head head,
                               struct byol_head_info *info,
                               struct byol_error *error);

/**
 * Writes the name of a class, counted from 0. Texts are given as by byol_build_info.
 *
 * Ownership: `buffer` is the caller's. Threads: any.
 * Errors: NULL_POINTER, HANDLE, NOT_FOUND (no such class), BUFFER_TOO_SMALL. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_head_get_label(struct byol_head head,
                                uint32_t class_index,
                                char *buffer,
                                size_t capacity,
                                size_t *needed,
                                struct byol_error *error);

/**
 * Succeeds when a head belongs to an encoder: it takes features of that length, and was fitted on those of that very
 * file (a head that does not know its encoder passes). byol_head_classify checks it by itself.
 *
 * Ownership: nothing changes hands. Threads: any. Errors: HANDLE, WRONG_ENCODER, SHAPE. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_head_check(struct byol_head head,
                            struct byol_encoder encoder,
                            struct byol_error *error);

/**
 * Predicts the classes of `rows` rows of `columns` features, `row_stride` floats apart (0 for columns).
 *
 * `labels` gets the most probable class of each row, the lower number in a tie; `probabilities` gets
 * [rows, classes] values without gaps, each row summing to 1, and `probabilities_len` is the number of floats there.
 * One of the two may be NULL.
 *
 * Ownership: all memory is the caller's and only used during the call; outputs must not overlap features. Threads: any.
 * Errors: NULL_POINTER, HANDLE, INVALID_ARG, SHAPE, NON_FINITE (item_index: the row), BUFFER_TOO_SMALL. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_head_predict(struct byol_head head,
                              const float *features,
                              size_t rows,
                              size_t columns,
                              size_t row_stride,
                              uint32_t *labels,
                              float *probabilities,
                              size_t probabilities_len,
                              struct byol_error *error);

/**
 * Computes a head's scores before they become probabilities: features times weights plus bias, as [rows, classes]
 * without gaps. Otherwise as byol_head_predict.
 *
 * Ownership: all memory is the caller's and only used during the call; logits must not overlap features. Threads: any.
 * Errors: NULL_POINTER, HANDLE, INVALID_ARG, SHAPE, NON_FINITE, BUFFER_TOO_SMALL. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_head_logits(struct byol_head head,
                             const float *features,
                             size_t rows,
                             size_t columns,
                             size_t row_stride,
                             float *logits,
                             size_t logits_len,
                             struct byol_error *error);

/**
 * Extracts and predicts in one call: byol_extract, then byol_head_predict, after byol_head_check. A picture that
 * `item_status` refuses leaves its label and probabilities alone.
 *
 * Ownership: all memory is the caller's and only used during the call; outputs must not overlap the pictures.
 * Threads: any.
 * Errors: those of byol_extract, byol_head_predict and byol_head_check. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_head_classify(struct byol_head head,
                               struct byol_encoder encoder,
                               const struct byol_image *images,
                               size_t count,
                               const struct byol_extract_options *options,
                               uint32_t *labels,
                               float *probabilities,
                               size_t probabilities_len,
                               byol_status *item_status,
                               struct byol_cancel token,
                               struct byol_error *error);

/**
 * Closes a head. Calls that use it finish. Closing `{0}` does nothing.
 *
 * Ownership: the handle is given back. Threads: any. Errors: HANDLE when it is closed already. @since 0.1.0
 */
BYOL_API byol_status byol_head_close(struct byol_head head, struct byol_error *error);

/**
 * Predicts the `k` most probable classes of every row, best first, the lower number first in a tie; features as to
 * byol_head_predict. A class less probable than `threshold` (0 for none) becomes BYOL_NO_CLASS: with k 1, that refuses
 * rows that the head is not sure of.
 *
 * `labels` and `probabilities` get [rows, k] values without gaps; `labels_len` and `probabilities_len` count them. One
 * of the two may be NULL. Probabilities are there for refused classes too.
 *
 * Ownership: all memory is the caller's and only used during the call; outputs must not overlap features. Threads: any.
 * Errors: NULL_POINTER, HANDLE, INVALID_ARG (k is not 1 to the number of classes, threshold not 0 to 1), SHAPE,
 * NON_FINITE (item_index: the row), BUFFER_TOO_SMALL. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_head_top_k(struct byol_head head,
                            const float *features,
                            size_t rows,
                            size_t columns,
                            size_t row_stride,
                            uint32_t k,
                            float threshold,
                            uint32_t *labels,
                            size_t labels_len,
                            float *probabilities,
                            size_t probabilities_len,
                            struct byol_error *error);

/**
 * Makes a head from weights that come from elsewhere, such as scikit-learn's coef_ and intercept_ or a PyTorch Linear:
 * `weights` is [classes, columns], `row_stride` floats apart (0 for columns), and `bias` one float per class, or NULL
 * for none. `class_names` and `encoder` are as to byol_head_fit: with byol_head_get_weights, this also gives a head
 * other names.
 *
 * Ownership: all memory is the caller's and only used during the call; close the head with byol_head_close.
 * Threads: any.
 * Errors: NULL_POINTER, HANDLE, INVALID_ARG, SHAPE, NON_FINITE (item_index: the class), NO_MEMORY. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_head_create(const float *weights,
                             uint32_t classes,
                             size_t columns,
                             size_t row_stride,
                             const float *bias,
                             const char *const *class_names,
                             struct byol_encoder encoder,
                             struct byol_head *head,
                             struct byol_error *error);

/**
 * Copies a head's weights, [classes, dimension] without gaps, and its bias, one float per class. Either may be NULL; the
 * lengths count floats.
 *
 * Ownership: all memory is the caller's. Threads: any. Errors: NULL_POINTER (both), HANDLE, BUFFER_TOO_SMALL.
 * @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_head_get_weights(struct byol_head head,
                                  float *weights,
                                  size_t weights_len,
                                  float *bias,
                                  size_t bias_len,
                                  struct byol_error *error);

/**
 * Gives a head a second handle, which is closed by itself. Heads never change, so nothing is copied.
 *
 * Ownership: close the new handle with byol_head_close. Threads: any. Errors: NULL_POINTER, HANDLE, LIMIT, NO_MEMORY.
 * @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_head_clone(struct byol_head head,
                            struct byol_head *copy,
                            struct byol_error *error);

/**
 * Makes a head whose probabilities are as often right as they say: finds the temperature of least log-loss on labelled
 * features that the head was not fitted to, given as to byol_head_evaluate, and divides the scores by it (temperature
 * scaling, Guo et al. 2017). No prediction changes. `temperature` (may be NULL) gets it; above 1 the head was too sure.
 *
 * Ownership: all memory is the caller's and only used during the call; close the new head with byol_head_close, `head`
 * stays as it is. Threads: any.
 * Errors: NULL_POINTER, HANDLE, INVALID_ARG, SHAPE, LABEL and NON_FINITE (both with the row in item_index), DATA,
 * NO_MEMORY. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_head_calibrate(struct byol_head head,
                                const float *features,
                                size_t rows,
                                size_t columns,
                                size_t row_stride,
                                const uint32_t *labels,
                                struct byol_head *calibrated,
                                double *temperature,
                                struct byol_error *error);

/**
 * Writes a head as an ONNX model, whole or not at all: alone, from "features" to "logits" and "probabilities", where
 * `encoder` is NULL; else behind the encoder of that file, as one classifier from pictures to both, which stock ONNX
 * Runtime runs. The class names are in its metadata as "byol.labels", a JSON list.
 *
 * Ownership: `encoder` and `path` are only read during the call. Threads: any.
 * Errors: NULL_POINTER, HANDLE, ABI, INVALID_ARG, NOT_FOUND, IO, LIMIT, CHECKSUM, NO_MEMORY, MODEL_INVALID (no encoder,
 * or its features have another length), WRONG_ENCODER. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_head_export_onnx(struct byol_head head,
                                  const struct byol_source *encoder,
                                  const char *path,
                                  struct byol_error *error);

/**
 * As byol_head_export_onnx, into memory. Bytes are given as by byol_head_save_bytes.
 *
 * Ownership: `encoder` is only read during the call, `buffer` is the caller's. Threads: any.
 * Errors: those of byol_head_export_onnx, BUFFER_TOO_SMALL. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_head_export_onnx_bytes(struct byol_head head,
                                        const struct byol_source *encoder,
                                        uint8_t *buffer,
                                        size_t capacity,
                                        size_t *needed,
                                        struct byol_error *error);

/**
 * Sets `size` bytes at `options`, which is sizeof(byol_fit_options) in the caller's header, to what
 * BYOL_FIT_OPTIONS_INIT is.
 *
 * Does nothing when `options` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any.
 * Errors: none. @since 0.1.0
 */
BYOL_API void byol_fit_options_init(struct byol_fit_options *options, size_t size);

/**
 * Sets `size` bytes at `report`, which is sizeof(byol_fit_report) in the caller's header, to what BYOL_FIT_REPORT_INIT
 * is.
 *
 * Does nothing when `report` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any.
 * Errors: none. @since 0.1.0
 */
BYOL_API void byol_fit_report_init(struct byol_fit_report *report, size_t size);

/**
 * Fits a head to `rows` rows of `columns` features, `row_stride` floats apart (0 for columns), and their `labels`, each
 * from 0 to classes - 1. Deterministic: the same input gives the same head, whatever the threads.
 *
 * `class_names` holds `classes` texts in UTF-8, or is NULL for "0", "1", ... `encoder` is the one whose features these
 * are, so that the head will refuse others; `{0}` leaves that open. `options` (NULL for the defaults), `progress` with
 * its `user`, `token` (`{0}`) and `report` may be left out.
 *
 * Ownership: all memory is the caller's and only used during the call; close the head with byol_head_close.
 * Threads: any.
 * Errors: NULL_POINTER, HANDLE, ABI, INVALID_ARG, SHAPE, LABEL, NON_FINITE (both with the row in item_index), DATA,
 * NO_OPTIMUM (l2 0 only), NO_MEMORY, CANCELLED, DEADLINE. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_head_fit(const float *features,
                          size_t rows,
                          size_t columns,
                          size_t row_stride,
                          const uint32_t *labels,
                          const char *const *class_names,
                          uint32_t classes,
                          struct byol_encoder encoder,
                          const struct byol_fit_options *options,
                          byol_fit_callback progress,
                          void *user,
                          struct byol_cancel token,
                          struct byol_head *head,
                          struct byol_fit_report *report,
                          struct byol_error *error);

/**
 * Fits a head again as byol_head_fit does, to the same optimum, starting at the head `start`: after examples were
 * added, removed or relabelled, or with another penalty, it takes a fraction of the time. The features are those of all
 * examples. Classes are matched by name; new ones may come, old ones may go.
 *
 * Ownership: all memory is the caller's and only used during the call; close the new head with byol_head_close, `start`
 * stays as it is. Threads: any.
 * Errors: those of byol_head_fit. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_head_refit(struct byol_head start,
                            const float *features,
                            size_t rows,
                            size_t columns,
                            size_t row_stride,
                            const uint32_t *labels,
                            const char *const *class_names,
                            uint32_t classes,
                            struct byol_encoder encoder,
                            const struct byol_fit_options *options,
                            byol_fit_callback progress,
                            void *user,
                            struct byol_cancel token,
                            struct byol_head *head,
                            struct byol_fit_report *report,
                            struct byol_error *error);

/**
 * Sets `size` bytes at `metrics`, which is sizeof(byol_metrics) in the caller's header, to what BYOL_METRICS_INIT is.
 *
 * Does nothing when `metrics` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any.
 * Errors: none. @since 0.1.0
 */
BYOL_API void byol_metrics_init(struct byol_metrics *metrics, size_t size);

/**
 * Judges a head on labelled features, given as to byol_head_predict; labels count the head's classes.
 *
 * `per_class` (may be NULL) gets precision, recall and F1 of every class, as [classes, 3]; a ratio of nothing by nothing
 * is 0. `confusion` (may be NULL) gets the examples as [class, predicted class]. The lengths count values.
 *
 * Ownership: all memory is the caller's and only used during the call. Threads: any.
 * Errors: NULL_POINTER, HANDLE, ABI, INVALID_ARG, SHAPE, LABEL and NON_FINITE (both with the row in item_index), DATA,
 * BUFFER_TOO_SMALL, LIMIT, NO_MEMORY. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_head_evaluate(struct byol_head head,
                               const float *features,
                               size_t rows,
                               size_t columns,
                               size_t row_stride,
                               const uint32_t *labels,
                               struct byol_metrics *metrics,
                               double *per_class,
                               size_t per_class_len,
                               uint64_t *confusion,
                               size_t confusion_len,
                               struct byol_error *error);

/**
 * Predicts the class of each of `query_rows` rows by its `k` nearest neighbours, by cosine, among `train_rows` rows with
 * labels: a look at features that needs no training. `temperature` 0 is a majority vote; above 0, a neighbour of
 * cosine s has exp(s / temperature) votes. Strides count floats, 0 for `columns`. `predicted` gets one label per query.
 *
 * Ownership: all memory is the caller's and only used during the call. Threads: any.
 * Errors: NULL_POINTER, INVALID_ARG, SHAPE, DATA, NON_FINITE. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_knn_predict(const float *train,
                             size_t train_rows,
                             size_t train_stride,
                             const uint32_t *labels,
                             const float *queries,
                             size_t query_rows,
                             size_t query_stride,
                             size_t columns,
                             uint32_t k,
                             float temperature,
                             uint32_t *predicted,
                             struct byol_error *error);

/**
 * Sets `size` bytes at `info`, which is sizeof(byol_features_info) in the caller's header, to what
 * BYOL_FEATURES_INFO_INIT is.
 *
 * Does nothing when `info` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any. Errors:
 * none. @since 0.1.0
 */
BYOL_API void byol_features_info_init(struct byol_features_info *info, size_t size);

/**
 * Makes an empty container for features of `encoder`, or, where that is `{0}`, of `dimension` numbers each. With an
 * encoder, `dimension` is 0 or the encoder's.
 *
 * Ownership: close the handle with byol_features_close at any time. Threads: any.
 * Errors: NULL_POINTER, HANDLE, INVALID_ARG, SHAPE, LIMIT, NO_MEMORY. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_features_create(struct byol_encoder encoder,
                                 uint32_t dimension,
                                 struct byol_features *features,
                                 struct byol_error *error);

/**
 * Adds rows behind the last: `rows` rows of `columns` features, `row_stride` floats apart (0 for columns), their `labels`
 * (NULL for none) and their `names` (NULL for none): the paths of their pictures, say. Either all rows of a container
 * have labels, or none has; so for names. All are added or none.
 *
 * Ownership: all memory is the caller's and only used during the call: everything is copied. Threads: any.
 * Errors: NULL_POINTER, HANDLE, INVALID_ARG, SHAPE, LABEL (missing), NON_FINITE (item_index: the row), LIMIT, NO_MEMORY.
 * @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_features_append(struct byol_features features,
                                 const float *values,
                                 size_t rows,
                                 size_t columns,
                                 size_t row_stride,
                                 const uint32_t *labels,
                                 const char *const *names,
                                 struct byol_error *error);

/**
 * Names the classes that labels count, in place of what they were called before; 0 names for none.
 *
 * Ownership: all memory is the caller's and only used during the call. Threads: any.
 * Errors: NULL_POINTER, HANDLE, INVALID_ARG, LABEL (a label has no name; item_index: its row). @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_features_set_classes(struct byol_features features,
                                      const char *const *class_names,
                                      uint32_t classes,
                                      struct byol_error *error);

/**
 * Tells what a container holds.
 *
 * Ownership: `info` is the caller's. Threads: any. Errors: NULL_POINTER, HANDLE, ABI. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_features_get_info(struct byol_features features,
                                   struct byol_features_info *info,
                                   struct byol_error *error);

/**
 * Copies `rows` rows from row `first` on: their features into `values`, `row_stride` floats apart (0 for the dimension),
 * of which `values_len` are there, and their labels into `labels`. One of the two may be NULL. There is no pointer
 * into a container, so that nothing can be used after it is gone.
 *
 * Ownership: all memory is the caller's. Threads: any.
 * Errors: NULL_POINTER (both), HANDLE, NOT_FOUND (no such rows), LABEL (there are none), SHAPE, BUFFER_TOO_SMALL.
 * @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_features_get_rows(struct byol_features features,
                                   size_t first,
                                   size_t rows,
                                   float *values,
                                   size_t row_stride,
                                   size_t values_len,
                                   uint32_t *labels,
                                   struct byol_error *error);

/**
 * Writes the name of a row. Texts are given as by byol_build_info.
 *
 * Ownership: `buffer` is the caller's. Threads: any.
 * Errors: NULL_POINTER, HANDLE, NOT_FOUND (no such row, or rows have no names), BUFFER_TOO_SMALL. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_features_get_name(struct byol_features features,
                                   size_t row,
                                   char *buffer,
                                   size_t capacity,
                                   size_t *needed,
                                   struct byol_error *error);

/**
 * Writes the name of a class, counted from 0. Texts are given as by byol_build_info.
 *
 * Ownership: `buffer` is the caller's. Threads: any.
 * Errors: NULL_POINTER, HANDLE, NOT_FOUND (no such class), BUFFER_TOO_SMALL. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_features_get_class(struct byol_features features,
                                    uint32_t class_index,
                                    char *buffer,
                                    size_t capacity,
                                    size_t *needed,
                                    struct byol_error *error);

/**
 * Writes a container to a file, whole or not at all: ".safetensors" takes everything, ".npy" the features alone.
 *
 * Ownership: `path` is only read during the call. Threads: any.
 * Errors: NULL_POINTER, HANDLE, INVALID_ARG, CORRUPT (another extension), NOT_FOUND (of the folder), IO. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_features_save(struct byol_features features,
                               const char *path,
                               struct byol_error *error);

/**
 * Reads a container from a file that byol_features_save or the command wrote, or any two-dimensional ".npy" of numbers,
 * and checks every part of it.
 *
 * Ownership: close the handle with byol_features_close at any time. Threads: any.
 * Errors: NULL_POINTER, INVALID_ARG, NOT_FOUND, IO, CORRUPT, NEWER_FORMAT. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_features_load(const char *path,
                               struct byol_features *features,
                               struct byol_error *error);

/**
 * Computes the cosine of each of `query_rows` queries with every row of the container: [query_rows, rows] values without
 * gaps into `similarities`, of which `similarities_len` are there. A row of zeros has cosine 0 with everything.
 *
 * Ownership: all memory is the caller's and only used during the call; similarities must not overlap queries.
 * Threads: any.
 * Errors: NULL_POINTER, HANDLE, INVALID_ARG, SHAPE, DATA (the container is empty), NON_FINITE, BUFFER_TOO_SMALL.
 * @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_features_similarity(struct byol_features features,
                                     const float *queries,
                                     size_t query_rows,
                                     size_t columns,
                                     size_t query_stride,
                                     float *similarities,
                                     size_t similarities_len,
                                     struct byol_error *error);

/**
 * Finds the `k` rows of the container with the largest cosine to each of `query_rows` queries, nearest first, the lower
 * row first in a tie. `nearest` gets their numbers and `similarities` their cosines, [query_rows, k] values each without
 * gaps, of which `nearest_len` and `similarities_len` are there. One of the two may be NULL.
 *
 * Ownership: all memory is the caller's and only used during the call; outputs must not overlap queries. Threads: any.
 * Errors: NULL_POINTER, HANDLE, INVALID_ARG (k is not 1 to the number of rows), SHAPE, DATA (the container is empty),
 * NON_FINITE, BUFFER_TOO_SMALL. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_features_nearest(struct byol_features features,
                                  const float *queries,
                                  size_t query_rows,
                                  size_t columns,
                                  size_t query_stride,
                                  uint32_t k,
                                  uint32_t *nearest,
                                  size_t nearest_len,
                                  float *similarities,
                                  size_t similarities_len,
                                  struct byol_error *error);

/**
 * Closes a container. Calls that use it finish. Closing `{0}` does nothing.
 *
 * Ownership: the handle is given back. Threads: any. Errors: HANDLE when it is closed already. @since 0.1.0
 */
BYOL_API byol_status byol_features_close(struct byol_features features, struct byol_error *error);

/**
 * Sets `size` bytes at `info`, which is sizeof(byol_trainer_info) in the caller's header, to what
 * BYOL_TRAINER_INFO_INIT is.
 *
 * Does nothing when `info` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any. Errors:
 * none. @since 0.1.0
 */
BYOL_API void byol_trainer_info_init(struct byol_trainer_info *info, size_t size);

/**
 * Sets `size` bytes at `options`, which is sizeof(byol_search_options) in the caller's header, to what
 * BYOL_SEARCH_OPTIONS_INIT is.
 *
 * Does nothing when `options` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any.
 * Errors: none. @since 0.1.0
 */
BYOL_API void byol_search_options_init(struct byol_search_options *options, size_t size);

/**
 * Makes a trainer without examples for features of `encoder`, or, where that is `{0}`, of `dimension` numbers each.
 * With an encoder, `dimension` is 0 or the encoder's; the heads then refuse other encoders.
 *
 * Ownership: close the handle with byol_trainer_close at any time; the encoder may be closed before. Threads: any.
 * Errors: NULL_POINTER, HANDLE, INVALID_ARG, SHAPE, LIMIT, NO_MEMORY. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_trainer_create(struct byol_encoder encoder,
                                uint32_t dimension,
                                struct byol_trainer *trainer,
                                struct byol_error *error);

/**
 * Tells what a trainer holds.
 *
 * Ownership: `info` is the caller's. Threads: any. Errors: NULL_POINTER, HANDLE, ABI. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_trainer_get_info(struct byol_trainer trainer,
                                  struct byol_trainer_info *info,
                                  struct byol_error *error);

/**
 * Adds a class without examples; `class_index` gets its number, counted from 0 in the order of their coming. Where there
 * is a class of that name, that one's.
 *
 * Ownership: all memory is the caller's and only used during the call. Threads: any.
 * Errors: NULL_POINTER, HANDLE, INVALID_ARG (no name, or not UTF-8), NO_MEMORY. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_trainer_add_class(struct byol_trainer trainer,
                                   const char *name,
                                   uint32_t *class_index,
                                   struct byol_error *error);

/**
 * Writes the name of a class and, where `examples` is not NULL, the number of its examples. Texts are given as by
 * byol_build_info.
 *
 * Ownership: all memory is the caller's. Threads: any.
 * Errors: NULL_POINTER, HANDLE, NOT_FOUND (no such class), BUFFER_TOO_SMALL. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_trainer_get_class(struct byol_trainer trainer,
                                   uint32_t class_index,
                                   char *buffer,
                                   size_t capacity,
                                   size_t *needed,
                                   uint64_t *examples,
                                   struct byol_error *error);

/**
 * Removes a class with all its examples. The numbers of the classes behind it become smaller by one.
 *
 * Ownership: nothing changes hands. Threads: any. Errors: HANDLE, NOT_FOUND, NO_MEMORY. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_trainer_remove_class(struct byol_trainer trainer,
                                      uint32_t class_index,
                                      struct byol_error *error);

/**
 * Adds examples: `rows` rows of `columns` features, `row_stride` floats apart (0 for columns), and their `labels`, which
 * count the trainer's classes. `ids` (may be NULL) gets one number per row, above 0 and never used again, by which an
 * example can be removed or relabelled. All are added or none; also while a fit runs, which goes on without them.
 *
 * Ownership: all memory is the caller's and only used during the call: everything is copied. Threads: any.
 * Errors: NULL_POINTER, HANDLE, INVALID_ARG, SHAPE, LABEL and NON_FINITE (both with the row in item_index), LIMIT,
 * NO_MEMORY. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_trainer_add(struct byol_trainer trainer,
                             const float *features,
                             size_t rows,
                             size_t columns,
                             size_t row_stride,
                             const uint32_t *labels,
                             uint64_t *ids,
                             struct byol_error *error);

/**
 * Adds pictures as examples: byol_extract, then byol_trainer_add. With `item_status`, a bad picture is told there, its
 * id is 0 and the others are added; without, it fails the call and none is added.
 *
 * Ownership: all memory is the caller's and only used during the call. Threads: any.
 * Errors: those of byol_extract and byol_trainer_add, WRONG_ENCODER. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_trainer_add_images(struct byol_trainer trainer,
                                    struct byol_encoder encoder,
                                    const struct byol_image *images,
                                    size_t count,
                                    const uint32_t *labels,
                                    uint64_t *ids,
                                    byol_status *item_status,
                                    struct byol_cancel token,
                                    struct byol_error *error);

/**
 * Adds encoded pictures as examples, each the bytes of one file, as byol_extract_encoded takes them. Otherwise as
 * byol_trainer_add_images.
 *
 * Ownership: all memory is the caller's and only used during the call. Threads: any.
 * Errors: those of byol_trainer_add_images. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_trainer_add_encoded(struct byol_trainer trainer,
                                     struct byol_encoder encoder,
                                     const uint8_t *const *data,
                                     const size_t *lengths,
                                     size_t count,
                                     const uint32_t *labels,
                                     uint64_t *ids,
                                     byol_status *item_status,
                                     struct byol_cancel token,
                                     struct byol_error *error);

/**
 * Adds picture files as examples, whose paths are in UTF-8. Otherwise as byol_trainer_add_images.
 *
 * Ownership: all memory is the caller's and only used during the call. Threads: any.
 * Errors: those of byol_trainer_add_images, NOT_FOUND, IO. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_trainer_add_files(struct byol_trainer trainer,
                                   struct byol_encoder encoder,
                                   const char *const *paths,
                                   size_t count,
                                   const uint32_t *labels,
                                   uint64_t *ids,
                                   byol_status *item_status,
                                   struct byol_cancel token,
                                   struct byol_error *error);

/**
 * Adds all rows of a container with labels. Classes are matched by name, and new ones added; labels without names are
 * classes "0", "1", ... `first_id` (may be NULL) gets the number of the first; the others follow it.
 *
 * Ownership: nothing changes hands: everything is copied. Threads: any.
 * Errors: NULL_POINTER, HANDLE, SHAPE, LABEL, WRONG_ENCODER, LIMIT, NO_MEMORY. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_trainer_add_features(struct byol_trainer trainer,
                                      struct byol_features features,
                                      uint64_t *first_id,
                                      struct byol_error *error);

/**
 * Copies all examples into a new container, in the order of their numbers, with labels and classes: to be saved with
 * byol_features_save, and to be added to a trainer again later.
 *
 * Ownership: close the container with byol_features_close. Threads: any.
 * Errors: NULL_POINTER, HANDLE, LIMIT, NO_MEMORY. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_trainer_get_features(struct byol_trainer trainer,
                                      struct byol_features *features,
                                      struct byol_error *error);

/**
 * Removes `count` examples by their numbers. All are removed or none.
 *
 * Ownership: `ids` is only read during the call. Threads: any.
 * Errors: NULL_POINTER, HANDLE, NOT_FOUND (no such example), NO_MEMORY. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_trainer_remove(struct byol_trainer trainer,
                                const uint64_t *ids,
                                size_t count,
                                struct byol_error *error);

/**
 * Gives an example to another class.
 *
 * Ownership: nothing changes hands. Threads: any.
 * Errors: HANDLE, NOT_FOUND (no such example or class), NO_MEMORY. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_trainer_relabel(struct byol_trainer trainer,
                                 uint64_t example,
                                 uint32_t class_index,
                                 struct byol_error *error);

/**
 * Fits a head to all examples, as byol_head_fit. options.sample_weights must be NULL.
 *
 * Ownership: all memory is the caller's and only used during the call; close the head with byol_head_close.
 * Threads: any.
 * Errors: those of byol_head_fit. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_trainer_fit(struct byol_trainer trainer,
                             const struct byol_fit_options *options,
                             byol_fit_callback progress,
                             void *user,
                             struct byol_cancel token,
                             struct byol_head *head,
                             struct byol_fit_report *report,
                             struct byol_error *error);

/**
 * Fits a head to all examples, as byol_trainer_fit and to the same optimum, starting at the last one that was fitted:
 * after examples or classes came or went, or with another penalty, it takes a fraction of the time. The first time it
 * is byol_trainer_fit.
 *
 * Ownership: all memory is the caller's and only used during the call; close the head with byol_head_close.
 * Threads: any.
 * Errors: those of byol_head_fit. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_trainer_refit(struct byol_trainer trainer,
                               const struct byol_fit_options *options,
                               byol_fit_callback progress,
                               void *user,
                               struct byol_cancel token,
                               struct byol_head *head,
                               struct byol_fit_report *report,
                               struct byol_error *error);

/**
 * Tries penalties, judges each on examples that are held out, and fits a head with the best to all examples: the highest
 * accuracy, then the lowest loss, then the strongest penalty. fit_options.l2 is not used; report.l2 is the best.
 *
 * `tried` (may be NULL) gets, for every penalty that was tried, strongest first, its l2, accuracy, standard deviation of
 * the accuracy over the folds (0 without), and mean cross-entropy, as [penalties, 4]; `tried_len` is the number of
 * doubles there, at least 4 for every penalty of the options (4 * BYOL_SEARCH_PENALTIES where they have none).
 * `tried_count` (may be NULL) gets how many were tried: fewer where patience ended it.
 *
 * Ownership: all memory is the caller's and only used during the call; close the head with byol_head_close.
 * Threads: any.
 * Errors: those of byol_head_fit, BUFFER_TOO_SMALL. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_trainer_search(struct byol_trainer trainer,
                                const struct byol_fit_options *fit_options,
                                const struct byol_search_options *options,
                                byol_search_callback progress,
                                void *user,
                                struct byol_cancel token,
                                struct byol_head *head,
                                struct byol_fit_report *report,
                                double *tried,
                                size_t tried_len,
                                size_t *tried_count,
                                struct byol_error *error);

/**
 * Makes a head without fitting: every class's weights are the mean of its examples, each scaled to length 1, scaled to
 * length `scale` (Qi et al. 2018, "imprinting"; 10 to 30 is usual for features of length 1). One example of each class
 * is enough. It does not become the start of byol_trainer_refit.
 *
 * Ownership: close the head with byol_head_close. Threads: any.
 * Errors: NULL_POINTER, HANDLE, INVALID_ARG (scale is not above 0), DATA. @since 0.1.0
 */
BYOL_API
BYOL_NODISCARD
byol_status byol_trainer_imprint(struct byol_trainer trainer,
                                 float scale,
                                 struct byol_head *head,
                                 struct byol_error *error);

/**
 * Closes a trainer with its examples. Calls that use it finish. Closing `{0}` does nothing.
 *
 * Ownership: the handle is given back. Threads: any. Errors: HANDLE when it is closed already. @since 0.1.0
 */
BYOL_API byol_status byol_trainer_close(struct byol_trainer trainer, struct byol_error *error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* BYOL_H */

/* What a struct is started with: `byol_error error = BYOL_ERROR_INIT;`. The byol_..._init functions do the same for
 * languages that can't use macros. */
#define BYOL_ERROR_INIT {(uint32_t)sizeof(byol_error), 0, 0, BYOL_NO_ITEM, 0, {0}}
#define BYOL_RUNTIME_OPTIONS_INIT {(uint32_t)sizeof(byol_runtime_options), 0, NULL, 0}
#define BYOL_RUNTIME_STATS_INIT {(uint32_t)sizeof(byol_runtime_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0}
#define BYOL_SOURCE_INIT {(uint32_t)sizeof(byol_source), 0, NULL, NULL, 0, NULL, NULL, NULL}
#define BYOL_MODEL_INFO_INIT {(uint32_t)sizeof(byol_model_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}, {0}, {0}, {0}}
#define BYOL_CONTRACT_INIT {(uint32_t)sizeof(byol_contract), 0, 0, 0, 0, 0, 0, 0, {0, 0, 0, 0}, {0, 0, 0, 0}}
#define BYOL_ENCODER_OPTIONS_INIT {(uint32_t)sizeof(byol_encoder_options), 0, 0, 0, 0, NULL, NULL}
#define BYOL_ENCODER_INFO_INIT \
    {(uint32_t)sizeof(byol_encoder_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, {0, 0, 0, 0}, {0, 0, 0, 0}, {0}}
#define BYOL_IMAGE_INIT {(uint32_t)sizeof(byol_image), 0, 0, 0, 0, NULL, 0, 0, 0, 0, 0, 0, 0}
#define BYOL_IMAGE_INFO_INIT {(uint32_t)sizeof(byol_image_info), 0, 0, 0, 0, 0, 0, {0}}
#define BYOL_EXTRACT_OPTIONS_INIT {(uint32_t)sizeof(byol_extract_options), 0, 0, 0, NULL, 0, NULL}
#define BYOL_FEATURES_INFO_INIT {(uint32_t)sizeof(byol_features_info), 0, 0, 0, 0, 0, 0, {0}}
#define BYOL_TRAINER_INFO_INIT {(uint32_t)sizeof(byol_trainer_info), 0, 0, 0, 0, {0}}
#define BYOL_SEARCH_OPTIONS_INIT {(uint32_t)sizeof(byol_search_options), 0, 3, 0, 0.2, 0, NULL, 0}
#define BYOL_FIT_OPTIONS_INIT {(uint32_t)sizeof(byol_fit_options), 1000, 1e-3, 1e-6, 0, 0, NULL, NULL, 0}
#define BYOL_FIT_REPORT_INIT {(uint32_t)sizeof(byol_fit_report), 0, 0, 0, 0, 0, 0, 0}
#define BYOL_HEAD_INFO_INIT {(uint32_t)sizeof(byol_head_info), 0, 0, 0, 0, 0, {0}, 0}
#define BYOL_METRICS_INIT {(uint32_t)sizeof(byol_metrics), 0, 0, 0, 0, 0, 0, 0, 0, 0}
