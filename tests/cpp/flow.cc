/* The whole of byol.hpp: from an encoder's file to a saved head and its predictions, and every way to fail. */
#include <byol.hpp>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

static int failures;

static void check(bool good, const char *what, int line)
{
    if (!good) {
        std::printf("line %d: %s\n", line, what);
        failures++;
    }
}
#define CHECK(condition) check((condition), #condition, __LINE__)

/* Gives up where going on makes no sense. */
#define MUST(r)                                                                             \
    do {                                                                                    \
        if (!(r)) {                                                                         \
            std::printf("line %d: %s\n", __LINE__, (r).error().message());                  \
            return 1;                                                                       \
        }                                                                                   \
    } while (0)

static const std::size_t COUNT = 40, SIDE = 28, CLASSES = 4;

static_assert(!std::is_copy_constructible<byol::encoder>::value, "move-only");
static_assert(!std::is_copy_assignable<byol::head>::value, "move-only");
static_assert(std::is_nothrow_move_constructible<byol::encoder>::value, "moves without throwing");
static_assert(std::is_nothrow_move_assignable<byol::cancel>::value, "moves without throwing");

int other_unit(const byol::encoder &encoder);

static int run(const std::string &file, const std::string &other_file, const std::string &folder)
{
    CHECK(byol::abi_check().has_value() && byol::version() == BYOL_VERSION_NUMBER);
    CHECK(std::strcmp(byol::version_string(), BYOL_VERSION_STRING) == 0);
    CHECK(std::strcmp(byol::status_name(BYOL_E_HANDLE), "BYOL_E_HANDLE") == 0);
    auto info = byol::inspect(byol::source::file(file));
    MUST(info);

    /* A failure says what it is, and leaves nothing behind. */
    {
        auto missing = byol::encoder::open(byol::source::file("no/such/file.onnx"));
        CHECK(!missing && missing.code() == BYOL_E_NOT_FOUND && !missing.has_value());
        CHECK(std::strcmp(missing.error().name(), "BYOL_E_NOT_FOUND") == 0 && !missing.error().has_item());
        CHECK(std::strstr(missing.error().message(), "no/such/file.onnx") != nullptr && !missing.error().is_retryable());
        auto wrong = byol::encoder::open(byol::source::file(file).expect_sha256(std::string(64, '0')));
        CHECK(wrong.code() == BYOL_E_CHECKSUM);
        const std::uint8_t bytes[4] = {1, 2, 3, 4};
        CHECK(byol::inspect(byol::source::memory(bytes)).code() == BYOL_E_MODEL_INVALID);
        byol::encoder none;
        CHECK(!none && none.info().code() == BYOL_E_HANDLE && none.close().has_value());
        CHECK(byol::live_handles() == 0);
#ifdef BYOL_HPP_EXCEPTIONS
        bool thrown = false;
        try {
            (void)byol::encoder::open(byol::source::file("no/such/file.onnx")).value();
        } catch (const byol::failure &failure) {
            thrown = failure.code() == BYOL_E_NOT_FOUND && std::strstr(failure.what(), "no/such/file.onnx") != nullptr;
        }
        CHECK(thrown);
#endif
    }

    auto runtime = byol::runtime::create();
    MUST(runtime);
    auto opened = byol::encoder::open(byol::source::file(file).expect_sha256(info->sha256),
                                      byol::make<byol_encoder_options>(), *runtime);
    MUST(opened);
    byol::encoder encoder = std::move(*opened);
    CHECK(encoder && !*opened);
    auto about = encoder.info();
    MUST(about);
    CHECK(about->dimension > 0 && about->height == SIDE && std::strcmp(about->sha256, info->sha256) == 0);
    auto build = byol::build_info();
    MUST(build);
    CHECK(build->find("\"onnxruntime\":{") != std::string::npos && build->size() > 128 && build->back() == '}');
    auto keys = encoder.metadata_keys();
    MUST(keys);
    CHECK(!keys->empty());
    for (const std::string &key : *keys)
        CHECK(encoder.metadata(key).has_value());
    CHECK(encoder.metadata("no such key").code() == BYOL_E_NOT_FOUND);

    /* Pictures of four kinds: bright in one quarter. */
    std::vector<std::vector<std::uint8_t>> pixels(COUNT, std::vector<std::uint8_t>(SIDE * SIDE, 20));
    std::vector<byol_image> images;
    std::vector<std::uint32_t> labels;
    for (std::size_t i = 0; i < COUNT; i++) {
        const std::size_t kind = i % CLASSES, x0 = kind % 2 * SIDE / 2, y0 = kind / 2 * SIDE / 2;
        for (std::size_t y = y0; y < y0 + SIDE / 2; y++)
            for (std::size_t x = x0; x < x0 + SIDE / 2; x++)
                pixels[i][y * SIDE + x] = static_cast<std::uint8_t>(150 + 2 * i);
        images.push_back(byol::image(BYOL_FORMAT_GRAY8, SIDE, SIDE, pixels[i]));
        labels.push_back(static_cast<std::uint32_t>(kind));
    }
    auto features = encoder.extract(images);
    MUST(features);
    CHECK(features->rows == COUNT && features->columns == about->dimension && features->row(3).size() == about->dimension);
    std::vector<float> into(COUNT * (about->dimension + 3), -1.0f);
    MUST(encoder.extract_into(images, into, about->dimension + 3));
    CHECK(std::memcmp(&into[about->dimension + 3], features->row(1).data(), about->dimension * sizeof(float)) == 0);
    std::vector<std::uint8_t> tensor;
    for (const auto &picture : pixels)
        tensor.insert(tensor.end(), picture.begin(), picture.end());
    auto again = encoder.extract_tensor(tensor, COUNT);
    MUST(again);
    CHECK(again->values == features->values);
    const std::vector<float> floats(SIDE * SIDE);
    CHECK(encoder.extract_tensor(floats, 1).code() == BYOL_E_MODEL_UNSUPPORTED);

    /* Bad pictures, with and without a place for what is wrong with them. */
    images[5].data = nullptr;
    auto bad = encoder.extract(images);
    CHECK(bad.code() == BYOL_E_NULL_POINTER && bad.error().has_item() && bad.error().item() == 5);
    std::vector<byol_status> statuses(COUNT, 99);
    auto most = encoder.extract(images, statuses);
    MUST(most);
    CHECK(statuses[5] == BYOL_E_NULL_POINTER && statuses[4] == BYOL_OK && most->row(6)[0] == features->row(6)[0]);
    std::vector<byol_status> few(3);
    CHECK(encoder.extract(images, few).code() == BYOL_E_SHAPE);
    CHECK(encoder.extract_into(images, into, 0, few).code() == BYOL_E_SHAPE);
    images[5].data = pixels[5].data();
    const std::vector<byol::span<const std::uint8_t>> encoded(1, byol::span<const std::uint8_t>(pixels[0]));
    CHECK(encoder.extract_encoded(encoded).code() == BYOL_E_IMAGE_DECODE);
    CHECK(encoder.extract_files({"no/such/cat.jpg"}).code() == BYOL_E_NOT_FOUND);

    /* Cancelling. */
    auto token = byol::cancel::create();
    MUST(token);
    MUST(token->trigger());
    CHECK(encoder.extract(images, byol::span<byol_status>(), *token).code() == BYOL_E_CANCELLED);
    MUST(token->reset());
    CHECK(encoder.extract(images, byol::span<byol_status>(), *token).has_value());

    /* A head. */
    const std::vector<std::string> names = {"upper left", "upper right", "lower left", "lower right"};
    auto report = byol::make<byol_fit_report>();
    std::uint64_t heard = 0;
    auto fitted = byol::head::fit(*features, labels, names, encoder, byol::make<byol_fit_options>(),
                                  [&](std::uint64_t iteration, double, double) { return heard = iteration, true; },
                                  byol::cancel(), &report);
    MUST(fitted);
    CHECK(report.converged == 1 && heard > 0);
    CHECK(byol::head::fit(*features, labels, names, encoder, byol::make<byol_fit_options>(),
                          [](std::uint64_t, double, double) { return false; })
              .code() == BYOL_E_CANCELLED);
#ifdef BYOL_HPP_EXCEPTIONS
    bool thrown = false;
    try {
        (void)byol::head::fit(*features, labels, names, encoder, byol::make<byol_fit_options>(),
                              [](std::uint64_t, double, double) -> bool { throw std::string("out of the progress"); });
    } catch (const std::string &text) {
        thrown = text == "out of the progress";
    }
    CHECK(thrown);
#endif
    auto predicted = fitted->predict(*features);
    MUST(predicted);
    CHECK(predicted->labels == labels && predicted->probabilities.columns == CLASSES);
    auto logits = fitted->logits(*features);
    MUST(logits);
    CHECK(logits->values.size() == COUNT * CLASSES);
    auto found = fitted->evaluate(*features, labels);
    MUST(found);
    CHECK(found->metrics.top1 > 0.99 && found->confusion[0] == COUNT / CLASSES && found->per_class.size() == 3 * CLASSES);
    CHECK(fitted->evaluate(*features, byol::span<const std::uint32_t>(labels.data(), 3)).code() == BYOL_E_SHAPE);
    auto nearest = byol::knn_predict(*features, labels, *features, 1);
    MUST(nearest);
    CHECK(*nearest == labels);
    CHECK(byol::knn_predict(*features, labels, byol::matrix_view(into.data(), 1, 2)).code() == BYOL_E_SHAPE);
    MUST(fitted->save(folder + "/head-cpp.safetensors"));
    auto bytes = fitted->save();
    MUST(bytes);
    auto loaded = byol::head::load(folder + "/head-cpp.safetensors"), copied = byol::head::load(*bytes);
    MUST(loaded);
    MUST(copied);
    auto head_info = loaded->info();
    MUST(head_info);
    CHECK(head_info->classes == CLASSES && copied->save().value() == *bytes);
    CHECK(std::move(loaded->label(3)).value_or("?") == names[3] && loaded->label(9).code() == BYOL_E_NOT_FOUND);
    CHECK(std::move(loaded->label(9)).value_or("?") == "?");
    MUST(loaded->check(encoder));
    auto classified = loaded->classify(encoder, images);
    MUST(classified);
    CHECK(classified->labels == labels);
    auto other = byol::encoder::open(byol::source::file(other_file));
    MUST(other);
    CHECK(loaded->check(*other).code() == BYOL_E_WRONG_ENCODER);

    /* Everything a head can become. */
    auto two = fitted->top_k(*features, 2);
    MUST(two);
    CHECK(two->labels.size() == 2 * COUNT && two->labels[6] == predicted->labels[3] && two->probabilities.columns == 2);
    CHECK(fitted->top_k(*features, 1, 1.0f)->labels[0] == BYOL_NO_CLASS);
    auto weights = fitted->weights();
    auto bias = fitted->bias();
    MUST(weights);
    MUST(bias);
    CHECK(weights->rows == CLASSES && bias->size() == CLASSES);
    auto made = byol::head::create(*weights, *bias, names, encoder);
    MUST(made);
    CHECK(made->logits(*features)->values == logits->values);
    CHECK(byol::head::create(*weights, byol::span<const float>(bias->data(), 1), names).code() == BYOL_E_SHAPE);
    double temperature = 0;
    auto cool = made->calibrate(*features, labels, &temperature);
    MUST(cool);
    CHECK(temperature > 0 && cool->info()->temperature == temperature && cool->predict(*features)->labels == labels);
    auto twin = cool->clone();
    MUST(twin);
    auto refitted = fitted->refit(*features, labels, names, encoder);
    MUST(refitted);
    MUST(fitted->export_onnx(folder + "/cpp-head.onnx"));
    MUST(fitted->export_onnx(folder + "/cpp-classifier.onnx", byol::source::file(file)));
    auto alone = fitted->onnx(), merged = fitted->onnx(byol::source::file(file));
    MUST(alone);
    MUST(merged);
    CHECK(alone->size() < merged->size());
    CHECK(fitted->onnx(byol::source::file(other_file)).code() == BYOL_E_WRONG_ENCODER);

    /* Packed features. */
    for (const std::uint32_t element : std::vector<std::uint32_t>{BYOL_ELEMENT_F16, BYOL_ELEMENT_I8}) {
        auto packed = encoder.extract_packed(images, element);
        MUST(packed);
        auto again_packed = byol::pack(*features, element);
        MUST(again_packed);
        CHECK(packed->storage == again_packed->storage && packed->scales == again_packed->scales);
        auto unpacked = byol::unpack(*packed);
        MUST(unpacked);
        CHECK(unpacked->rows == COUNT && fitted->predict(*unpacked)->labels == labels);
    }
    CHECK(encoder.extract_packed(images, 77).code() == BYOL_E_SHAPE);

    /* A model from a function, and one that throws. */
    {
        std::size_t at = 0;
        const auto give = [&](byol::span<std::uint8_t> room) {
            const std::size_t count = std::min(room.size(), merged->size() - at);
            std::memcpy(room.data(), merged->data() + at, count);
            at += count;
            return static_cast<std::int64_t>(count);
        };
        CHECK(byol::inspect(byol::source::reader(give)).has_value());
        CHECK(byol::inspect(byol::source::reader([](byol::span<std::uint8_t>) -> std::int64_t { return -1; })).code() ==
              BYOL_E_IO);
#ifdef BYOL_HPP_EXCEPTIONS
        CHECK(byol::inspect(byol::source::reader([](byol::span<std::uint8_t>) -> std::int64_t { throw 1; })).code() ==
              BYOL_E_IO);
#endif
        CHECK(byol::inspect(byol::source::file(file).allow_external_data()).has_value());
        /* A function's bytes come once, though two calls of byol.h make the model. */
        std::ifstream model(file, std::ios::binary);
        const auto stream = [&](byol::span<std::uint8_t> room) {
            model.read(reinterpret_cast<char *>(room.data()), static_cast<std::streamsize>(room.size()));
            return static_cast<std::int64_t>(model.gcount());
        };
        auto streamed = fitted->onnx(byol::source::reader(stream));
        MUST(streamed);
        CHECK(*streamed == *merged);
        CHECK(fitted->onnx(byol::source::reader([](byol::span<std::uint8_t>) -> std::int64_t { return -1; })).code() ==
              BYOL_E_IO);
    }
    CHECK(byol::probe(byol::span<const std::uint8_t>()).code() == BYOL_E_IMAGE_DECODE);

    /* A container, and a trainer. */
    auto container = byol::features::create(encoder);
    MUST(container);
    const std::vector<std::string> row_names(COUNT, "picture");
    MUST(container->append(*features, labels, row_names));
    CHECK(container->append(*features, byol::span<const std::uint32_t>(labels.data(), 1)).code() == BYOL_E_SHAPE);
    MUST(container->set_classes(names));
    CHECK(container->info()->rows == COUNT && *container->class_name(3) == names[3] && *container->name(2) == "picture");
    CHECK(container->rows(3, 2)->row(1)[0] == features->row(4)[0] && container->labels(1, 2)->at(1) == labels[2]);
    CHECK(container->rows(COUNT, 1).code() == BYOL_E_NOT_FOUND && container->rows(0, 0).has_value());
    auto near = container->nearest(*features, 2);
    MUST(near);
    CHECK(near->rows[0] == 0 && near->rows.size() == 2 * COUNT && near->similarities.values[0] > 0.999f);
    CHECK(container->similarity(*features)->columns == COUNT);
    MUST(container->save(folder + "/cpp.safetensors"));
    auto kept = byol::features::load(folder + "/cpp.safetensors");
    MUST(kept);
    auto trainer = byol::trainer::create(encoder);
    MUST(trainer);
    for (const std::string &name : names)
        MUST(trainer->add_class(name));
    auto ids = trainer->add_images(encoder, images, labels);
    MUST(ids);
    CHECK(ids->at(3) == 4 && *trainer->examples(0) == COUNT / CLASSES && *trainer->class_name(1) == names[1]);
    CHECK(trainer->add_encoded(encoder, encoded, byol::span<const std::uint32_t>(labels.data(), 1)).code() ==
          BYOL_E_IMAGE_DECODE);
    CHECK(trainer->add_files(encoder, {"no/such/cat.jpg"}, byol::span<const std::uint32_t>(labels.data(), 1)).code() ==
          BYOL_E_NOT_FOUND);
    auto taught = trainer->fit();
    MUST(taught);
    CHECK(taught->predict(*features)->labels == labels);
    auto rest = trainer->add(*features, labels);
    MUST(rest);
    MUST(trainer->relabel(ids->at(0), 1));
    MUST(trainer->remove(*rest));
    MUST(trainer->relabel(ids->at(0), labels[0]));
    auto retaught = trainer->refit();
    MUST(retaught);
    auto first = trainer->add(*kept);
    MUST(first);
    CHECK(trainer->info()->examples == 2 * COUNT && trainer->features()->info()->rows == 2 * COUNT);
    std::vector<byol::tried_penalty> tried;
    auto searched = trainer->search(byol::make<byol_search_options>(), byol::make<byol_fit_options>(),
                                    [](double, double, double) { return true; }, byol::cancel(), &report, &tried);
    MUST(searched);
    CHECK(tried.size() >= 3 && tried[0].l2 > tried[1].l2);
#ifdef BYOL_HPP_EXCEPTIONS
    thrown = false;
    try {
        (void)trainer->search(byol::make<byol_search_options>(), byol::make<byol_fit_options>(),
                              [](double, double, double) -> bool { throw 5; });
    } catch (int five) {
        thrown = five == 5;
    }
    CHECK(thrown);
#endif
    CHECK(trainer->imprint(20)->predict(*features)->labels == labels);
    MUST(trainer->remove_class(3));
    CHECK(trainer->info()->classes == CLASSES - 1);
    auto stats = byol::runtime_stats();
    MUST(stats);
    CHECK(stats->calls > 100 && stats->held_bytes > 0);
    MUST(byol::runtime_trim());

    /* The log. */
    std::vector<std::string> said;
    MUST(byol::set_log_sink([&](std::uint32_t, const char *text) { said.push_back(text); }));
    CHECK(byol::head::load(std::string("no/such/head")).code() == BYOL_E_NOT_FOUND);
    CHECK(byol::set_log_sink([](std::uint32_t, const char *) {}, 77).code() == BYOL_E_INVALID_ARG);
    MUST(byol::set_log_sink(byol::log_sink()));
    CHECK(said.size() >= 1 && said[0].find("no/such/head") != std::string::npos);

    /* Moving closes what was there; closing twice does nothing. */
    const std::uint64_t live = byol::live_handles();
    *loaded = std::move(*copied);
    CHECK(byol::live_handles() == live - 1);
    MUST(loaded->close());
    MUST(loaded->close());
    CHECK(!*loaded && byol::live_handles() == live - 2);
    byol::head adopted(fitted->release());
    CHECK(adopted && !*fitted);
    CHECK(other_unit(encoder) == 0);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    if (run(argv[1], argv[2], argv[3]) != 0)
        return 1;
    CHECK(byol::live_handles() == 0);
    CHECK(byol::shutdown().has_value());
    CHECK(byol::cancel::create().code() == BYOL_E_SHUTDOWN);
    std::printf("flow: %d failures\n", failures);
    return failures != 0;
}
