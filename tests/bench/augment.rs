//! Two views of a picture on one core: `cargo bench --features train --bench augment`, beside augment_torchvision.py.
//! Pictures are decoded before the clock starts. Prints the median of nine rounds.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use byol_model::picture::{Limits, Picture};
use byol_train::augment::{Draw, Operator, ViewsConfig};
use byol_train::canvas::Canvas;
use byol_train::resample::Source;

fn main() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let open = |name: &str| Picture::open(&data.join(name), &Limits::default()).unwrap();
    // Enlarged to the usual size of a photo in ImageNet; nothing here depends on what is in them.
    let photos = ["dahlia", "petals", "roof", "temple"].map(|name| {
        let small = open(&format!("photos/{name}.jpg"));
        let pixels = small.view().packed(3).unwrap();
        let mut canvas = Canvas::new(3, 375, 500);
        canvas.paint(Source { pixels: &pixels, channels: 3, width: small.width, height: small.height }, &[]);
        let value = |i: usize| (canvas.planes()[i % 3 * 500 * 375 + i / 3] * 255.0).round() as u8;
        Picture { channels: 3, width: 500, height: 375, pixels: (0..3 * 500 * 375).map(value).collect() }
    });
    let clothes = ["bag", "sneaker", "trouser"].map(|name| open(&format!("pictures/{name}/0.png")));
    let paper = ViewsConfig::paper();
    let mut sharp = paper.clone();
    for list in [&mut sharp.first, &mut sharp.second] {
        list.retain(|operator| !matches!(operator, Operator::GaussianBlur { .. }));
    }
    measure("photos of 500 x 375, 3 x 224 x 224, the paper's views", &photos, 3, 224, &paper);
    measure("clothes, 1 x 28 x 28, the paper's views without blur", &clothes, 1, 28, &sharp);
}

fn measure(what: &str, pictures: &[Picture], channels: usize, size: usize, views: &ViewsConfig) {
    let mut canvas = Canvas::new(channels, size, size);
    let (mut plan, mut out) = (Vec::new(), vec![0.0; channels * size * size]);
    let (mean, std) = (vec![0.5; channels], vec![0.25; channels]);
    let mut number = 0;
    let mut rounds = [(); 9].map(|()| {
        let (start, mut pairs) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_millis(400) {
            for picture in pictures {
                let (width, height) = (picture.width, picture.height);
                for view in 0..2 {
                    views.sample(Draw { seed: 0, epoch: 0, picture: number, view }, (width, height), size, &mut plan);
                    canvas.paint(Source { pixels: &picture.pixels, channels, width, height }, &plan);
                    canvas.normalise_into(&mean, &std, &mut out);
                    black_box(&out);
                }
                number += 1;
                pairs += 1;
            }
        }
        start.elapsed().as_secs_f64() * 1e6 / f64::from(pairs)
    });
    rounds.sort_by(f64::total_cmp);
    println!("{what}: {:.1} us a pair of views (fastest round {:.1})", rounds[4], rounds[0]);
}
