// What tests/bindings/golden.sh compares with the other languages, bit by bit: golden ROOT
#include <byol.hpp>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

static void row(const std::string &what, std::size_t i, byol::span<const float> values)
{
    std::printf("%s %zu", what.c_str(), i);
    for (const float value : values) {
        std::uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        std::printf(" %08x", unsigned(bits));
    }
    std::putchar('\n');
}

static void numbers(const char *what, const std::vector<double> &values)
{
    std::printf("%s", what);
    for (const double value : values) {
        std::uint64_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        std::printf(" %016llx", static_cast<unsigned long long>(bits));
    }
    std::putchar('\n');
}

static void opinion(const std::string &what, const byol::head &head, const byol::matrix &features)
{
    const byol::matrix logits = head.logits(features).value();
    const byol::prediction best = head.predict(features).value();
    for (std::size_t i = 0; i < features.rows; i++) {
        row(what + ".logits", i, logits.row(i));
        row(what + ".probabilities", i, best.probabilities.row(i));
        std::printf("%s.label %zu %s\n", what.c_str(), i, head.label(best.labels[i]).value().c_str());
    }
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    const std::string root = argv[1];
    const std::vector<std::string> names = {"bag", "sneaker", "trouser"};
    const std::size_t width = 9, height = 7, gap = 3, bytes[] = {0, 1, 3, 3, 4, 4, 4, 2, 6, 0, 0, 1, 1};
    const byol::encoder encoder = byol::encoder::open(byol::source::file(root + "/tests/data/encoder/uint8.onnx")).value();
    std::vector<std::string> paths;
    std::vector<std::uint32_t> all;
    for (std::uint32_t i = 0; i < 12; i++) {
        paths.push_back(root + "/tests/data/pictures/" + names[i / 4] + "/" + std::to_string(i % 4) + ".png");
        all.push_back(i / 4);
    }
    const byol::span<const std::uint32_t> labels(all.data(), all.size());
    const byol::matrix features = encoder.extract_files(paths).value();
    for (std::size_t i = 0; i < features.rows; i++)
        row("files", i, features.row(i));
    for (std::uint32_t format = BYOL_FORMAT_GRAY8; format <= BYOL_FORMAT_NV12_FULL; format++) {
        // Those of whole numbers: of any bytes they are pictures.
        if (bytes[format] == 0)
            continue;
        const std::size_t stride = width * bytes[format] + gap;
        std::vector<std::uint8_t> pixels((format >= BYOL_FORMAT_NV12 ? height + (height + 1) / 2 : height) * stride);
        std::uint32_t noise = 7 + format;
        for (std::uint8_t &pixel : pixels) {
            noise = noise * 1664525u + 1013904223u;
            pixel = std::uint8_t(noise >> 24);
        }
        byol_image image = byol::image(format, width, height, {pixels.data(), pixels.size()}, stride);
        row("pixels", format, encoder.extract({&image, 1}).value().row(0));
        if (format == BYOL_FORMAT_RGB8) {
            image.region_x = 1, image.region_y = 2, image.region_width = 5, image.region_height = 4, image.orientation = 6;
            row("turned", 6, encoder.extract({&image, 1}).value().row(0));
        }
    }
    byol_fit_report report = byol::make<byol_fit_report>();
    const byol::head head = byol::head::fit(features, labels, names, encoder, byol::make<byol_fit_options>(),
                                            byol::fit_progress(), byol::cancel(), &report).value();
    std::printf("fit %llu %llu\n", static_cast<unsigned long long>(report.iterations),
                static_cast<unsigned long long>(report.passes));
    numbers("fit.objective", {report.objective});
    opinion("fitted", head, features);
    const byol::head kept = byol::head::load(root + "/tests/data/golden/head.safetensors").value();
    opinion("kept", kept, features);
    const byol_metrics m = kept.evaluate(features, labels).value().metrics;
    numbers("metrics", {m.top1, m.balanced, m.log_loss, m.calibration_error});
    const std::vector<std::uint32_t> near = byol::knn_predict(features, labels, features, 5, 0.1f).value();
    for (std::size_t i = 0; i < near.size(); i++)
        std::printf("neighbours %zu %u\n", i, unsigned(near[i]));
    byol::features container = byol::features::create(encoder).value();
    container.append(features, labels).value();
    const byol::neighbours nearest = container.nearest(features, 3).value();
    for (std::size_t i = 0; i < features.rows; i++) {
        std::printf("nearest %zu %u %u %u\n", i, unsigned(nearest.rows[3 * i]), unsigned(nearest.rows[3 * i + 1]),
                    unsigned(nearest.rows[3 * i + 2]));
        row("cosines", i, nearest.similarities.row(i));
    }
    const byol::packed_matrix packed = byol::pack(features, BYOL_ELEMENT_I8).value();
    const std::int8_t *values = static_cast<const std::int8_t *>(packed.data());
    for (std::size_t i = 0; i < packed.rows; i++) {
        int sum = 0;
        for (std::size_t k = 0; k < packed.columns; k++)
            sum += values[i * packed.columns + k];
        row("scale", i, {&packed.scales[i], 1});
        std::printf("packed %zu %d\n", i, sum);
    }
    byol::trainer trainer = byol::trainer::create(encoder).value();
    for (const std::string &name : names)
        trainer.add_class(name).value();
    trainer.add(features, labels).value();
    opinion("taught", trainer.fit().value(), features);
    opinion("imprinted", trainer.imprint(10).value(), features);
}
