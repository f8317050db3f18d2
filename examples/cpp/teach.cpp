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

// The pictures that are kept, their features, and their classes.
struct album {
    std::vector<std::string> paths;
    byol::matrix features;
    std::vector<std::uint32_t> labels;
};

// Enrols a folder's pictures as a class of the trainer: all but the last.
static void enrol(byol::trainer &trainer, const byol::encoder &encoder, const std::string &folder, album &held)
{
    std::vector<std::string> paths;
    for (const auto &entry : std::filesystem::directory_iterator(folder))
        paths.push_back(folder + "/" + entry.path().filename().string());
    std::sort(paths.begin(), paths.end());
    const std::string last = paths.back();
    paths.pop_back();
    const std::uint32_t label = trainer.add_class(folder).value();
    const std::vector<std::uint32_t> labels(paths.size(), label);
    trainer.add_files(encoder, paths, {labels.data(), labels.size()}).value();
    const byol::matrix found = encoder.extract_files({last}).value();
    held.paths.push_back(last);
    held.labels.push_back(label);
    held.features.values.insert(held.features.values.end(), found.values.begin(), found.values.end());
    held.features.rows = held.paths.size();
    held.features.columns = found.columns;
}

// Fits a head to all that was enrolled, keeps it in a file, and judges and uses what the file holds.
static void teach(byol::trainer &trainer, const std::string &file, const album &held)
{
    trainer.refit().value().save(file).value();
    const byol::head head = byol::head::load(file).value();
    const byol::span<const std::uint32_t> truth(held.labels.data(), held.labels.size());
    const byol::evaluation judged = head.evaluate(held.features, truth).value();
    const byol::prediction guess = head.predict(held.features).value();
    const byol_trainer_info info = trainer.info().value();
    std::printf("%u classes, %llu pictures learned, %.3f of %zu others right\n", unsigned(info.classes),
                static_cast<unsigned long long>(info.examples), judged.metrics.top1, held.paths.size());
    for (std::size_t i = 0; i < held.paths.size(); i++)
        std::printf("  %s: %s %.3f\n", held.paths[i].c_str(), trainer.class_name(guess.labels[i]).value().c_str(),
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
        byol::trainer trainer = byol::trainer::create(encoder).value();
        album held;
        for (int i = 3; i < argc; i++) {
            enrol(trainer, encoder, argv[i], held);
            if (i >= argc - 2) // without the last class, and with it
                teach(trainer, argv[2], held);
        }
    } catch (const std::exception &error) {
        std::fprintf(stderr, "teach: %s\n", error.what());
        return 1;
    }
}
