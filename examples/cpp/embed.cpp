// Pictures in, features and nearest neighbours out. Build and run, where libbyol is installed:
//
//   c++ -std=c++17 -O2 embed.cpp -o embed $(pkg-config --cflags --libs byol)
//   ./embed encoder.onnx a.jpg b.png c.webp
#include <byol.hpp>

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

static double cosine(byol::span<const float> a, byol::span<const float> b)
{
    double ab = 0, aa = 0, bb = 0;
    for (std::size_t i = 0; i < a.size(); i++) {
        ab += double(a[i]) * double(b[i]);
        aa += double(a[i]) * double(a[i]);
        bb += double(b[i]) * double(b[i]);
    }
    return ab / std::sqrt(aa * bb);
}

static void embed(const std::string &model, const std::vector<std::string> &paths)
{
    // value() throws what went wrong.
    const byol::encoder encoder = byol::encoder::open(byol::source::file(model)).value();
    const byol::matrix features = encoder.extract_files(paths).value();
    std::printf("%zu pictures, %zu features each\n", features.rows, features.columns);
    for (std::size_t i = 0; i < features.rows; i++) {
        const byol::span<const float> mine = features.row(i);
        std::printf("%s:", paths[i].c_str());
        for (std::size_t f = 0; f < 4 && f < mine.size(); f++)
            std::printf(" %.4f", double(mine[f]));
        std::size_t nearest = i == 0;
        for (std::size_t j = 0; j < features.rows; j++)
            if (j != i && cosine(mine, features.row(j)) > cosine(mine, features.row(nearest)))
                nearest = j;
        std::printf("\n  nearest: %s, cosine %.4f\n", paths[nearest].c_str(), cosine(mine, features.row(nearest)));
    }
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        std::fprintf(stderr, "usage: embed ENCODER.onnx PICTURE PICTURE...\n");
        return 2;
    }
    try {
        embed(argv[1], std::vector<std::string>(argv + 2, argv + argc));
    } catch (const std::exception &error) {
        std::fprintf(stderr, "embed: %s\n", error.what());
        return 1;
    }
}
