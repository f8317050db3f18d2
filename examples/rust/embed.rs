//! Pictures in, features and nearest neighbours out:
//!
//! `cargo run --release --example embed -- encoder.onnx a.jpg b.png c.webp`
use byol_serve::cancel::Cancel;
use byol_serve::encoder::{Encoder, EncoderOptions};
use byol_serve::runtime::Runtime;
use std::error::Error;
use std::path::{Path, PathBuf};

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (f64::from(a), f64::from(b));
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    ab / (aa * bb).sqrt()
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, paths @ ..] = &arguments[..] else { return Err("usage: embed ENCODER.onnx PICTURE PICTURE...".into()) };
    if paths.len() < 2 {
        return Err("usage: embed ENCODER.onnx PICTURE PICTURE...".into());
    }
    let encoder = Encoder::open(&Runtime::shared()?, Path::new(model), &EncoderOptions::default())?;
    let n = encoder.dimension();
    let mut features = vec![0.0; paths.len() * n];
    let files: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    encoder.extract_files(&files, &mut features, n, None, &Cancel::new())?;
    println!("{} pictures, {n} features each", paths.len());
    let rows: Vec<&[f32]> = features.chunks(n).collect();
    for (i, path) in paths.iter().enumerate() {
        let first: Vec<String> = rows[i].iter().take(4).map(|f| format!("{f:.4}")).collect();
        println!("{path}: {}", first.join(" "));
        let others = (0..paths.len()).filter(|&j| j != i).map(|j| (j, cosine(rows[i], rows[j])));
        let nearest = others.reduce(|best, next| if next.1 > best.1 { next } else { best });
        if let Some((j, cosine)) = nearest {
            println!("  nearest: {}, cosine {cosine:.4}", paths[j]);
        }
    }
    Ok(())
}
