//! Learns classes from folders of pictures, and one more later. The last picture of each folder is kept to see how well.
//!
//! `cargo run --release --example teach -- encoder.onnx head.safetensors cats dogs birds`
use byol_serve::cancel::Cancel;
use byol_serve::encoder::{Encoder, EncoderOptions};
use byol_serve::features::Features;
use byol_serve::head::Head;
use byol_serve::runtime::Runtime;
use byol_serve::solver::FitOptions;
use ndarray::Array2;
use std::error::Error;
use std::path::{Path, PathBuf};

/// Pictures, their features one after the other, and their classes.
#[derive(Default)]
struct Album {
    paths: Vec<String>,
    values: Vec<f32>,
    labels: Vec<u32>,
}

impl Album {
    fn enrol(&mut self, encoder: &Encoder, paths: &[String], label: usize) -> Result<(), Box<dyn Error>> {
        let (old, n) = (self.values.len(), encoder.dimension());
        let files: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        self.values.resize(old + paths.len() * n, 0.0);
        encoder.extract_files(&files, &mut self.values[old..], n, None, &Cancel::new())?;
        self.paths.extend_from_slice(paths);
        self.labels.resize(self.paths.len(), label as u32);
        Ok(())
    }

    fn features(&self, encoder: &Encoder, names: &[String]) -> Result<Features, Box<dyn Error>> {
        let values = Array2::from_shape_vec((self.paths.len(), encoder.dimension()), self.values.clone())?;
        let mut features = Features::labelled(values, self.labels.clone());
        features.classes = Some(names.to_vec());
        features.encoder = Some(encoder.sha256().to_string());
        Ok(features)
    }
}

/// Fits a head, keeps it in a file, and judges and uses what the file holds.
fn teach(encoder: &Encoder, file: &str, names: &[String], learn: &Album, held: &Album) -> Result<(), Box<dyn Error>> {
    Head::fit(&learn.features(encoder, names)?, &FitOptions::default(), &Cancel::new(), None)?.save(file)?;
    let head = Head::load(file)?;
    let features = held.features(encoder, names)?;
    let (learned, others) = (learn.paths.len(), held.paths.len());
    let top1 = head.evaluate(&features)?.top1;
    println!("{} classes, {learned} pictures learned, {top1:.3} of {others} others right", names.len());
    for (path, guess) in held.paths.iter().zip(head.predict(features.values.view())?) {
        println!("  {path}: {} {:.3}", names[guess.label], guess.probability);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, file, folders) = match &arguments[..] {
        [model, file, folders @ ..] if folders.len() >= 3 => (model, file, folders),
        _ => return Err("usage: teach ENCODER.onnx HEAD.safetensors FOLDER FOLDER FOLDER...".into()),
    };
    let encoder = Encoder::open(&Runtime::shared()?, Path::new(model), &EncoderOptions::default())?;
    let (mut learn, mut held) = (Album::default(), Album::default());
    for (label, folder) in folders.iter().enumerate() {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            paths.push(format!("{folder}/{}", entry?.file_name().to_string_lossy()));
        }
        paths.sort();
        let (first, last) = paths.split_at(paths.len().saturating_sub(1));
        learn.enrol(&encoder, first, label)?;
        held.enrol(&encoder, last, label)?;
        // Without the last class, and with it.
        if label + 2 >= folders.len() {
            teach(&encoder, file, &folders[..=label], &learn, &held)?;
        }
    }
    Ok(())
}
