// Learns classes from folders of pictures, and one more later. The last picture of each folder is kept to see how well.
//
//   c++ -std=c++17 -O2 teach.cpp -o teach $(pkg-config --cflags --libs byol)
//   ./teach encoder.onnx head.safetensors cats dogs birds
#include <byol.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

// Pictures, their features, and their classes.
struct album {
    std::vector<std::string> paths;
    byol::matrix features;
    std::vector<std::uint32_t> labels;

    void enrol(const byol::encoder &encoder, const std::vector<std::string> &pictures, std::uint32_t label)
    {
        const byol::matrix found = encoder.extract_files(pictures).value();
        paths.insert(paths.end(), pictures.begin(), pictures.end());
        features.values.insert(features.values.end(), found.values.begin(), found.values.end());
        features.rows = paths.size();
        features.columns = found.columns;
        labels.resize(paths.size(), label);
    }
};

// Fits a head, keeps it in a file, and judges and uses what the file holds.
static void teach(const byol::encoder &encoder, const std::string &file, const std::vector<std::string> &names,
                  const album &learn, const album &held)
{
    const byol::span<const std::uint32_t> labels(learn.labels.data(), learn.labels.size());
    byol::head::fit(learn.features, labels, names, encoder).value().save(file).value();
    const byol::head head = byol::head::load(file).value();
    const byol::span<const std::uint32_t> truth(held.labels.data(), held.labels.size());
    const byol::evaluation judged = head.evaluate(held.features, truth).value();
    const byol::prediction guess = head.predict(held.features).value();
    std::printf("%zu classes, %zu pictures learned, %.3f of %zu others right\n", names.size(), learn.paths.size(),
                judged.metrics.top1, held.paths.size());
    for (std::size_t i = 0; i < held.paths.size(); i++)
        std::printf("  %s: %s %.3f\n", held.paths[i].c_str(), names[guess.labels[i]].c_str(),
                    double(guess.probabilities.row(i)[guess.labels[i]]));
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        std::fprintf(stderr, "usage: teach ENCODER.onnx HEAD.safetensors FOLDER FOLDER FOLDER...\n");
        return 2;
    }
    try {
        const byol::encoder encoder = byol::encoder::open(byol::source::file(argv[1])).value();
        album learn, held;
        std::vector<std::string> names;
        for (int i = 3; i < argc; i++) {
            std::vector<std::string> paths;
            for (const auto &entry : std::filesystem::directory_iterator(argv[i]))
                paths.push_back(argv[i] + ("/" + entry.path().filename().string()));
            std::sort(paths.begin(), paths.end());
            const auto last = paths.empty() ? paths.end() : paths.end() - 1;
            learn.enrol(encoder, {paths.begin(), last}, std::uint32_t(i - 3));
            held.enrol(encoder, {last, paths.end()}, std::uint32_t(i - 3));
            names.push_back(argv[i]);
            if (i >= argc - 2) // without the last class, and with it
                teach(encoder, argv[2], names, learn, held);
        }
    } catch (const std::exception &error) {
        std::fprintf(stderr, "teach: %s\n", error.what());
        return 1;
    }
}
