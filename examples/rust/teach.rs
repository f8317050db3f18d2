//! Learns classes from folders of pictures, and one more later. The last picture of each folder is kept to see how well.
//!
//! `cargo run --release --example teach -- encoder.onnx head.safetensors cats dogs birds`
use byol_serve::cancel::Cancel;
use byol_serve::encoder::{Encoder, EncoderOptions};
use byol_serve::features::Features;
use byol_serve::head::Head;
use byol_serve::runtime::Runtime;
use byol_serve::solver::FitOptions;
use byol_serve::trainer::Trainer;
use ndarray::{Array2, ArrayView2};
use std::error::Error;
use std::path::{Path, PathBuf};

/// The pictures that are kept, their features one after the other, and their classes.
#[derive(Default)]
struct Album {
    paths: Vec<String>,
    values: Vec<f32>,
    labels: Vec<u32>,
}

fn extract(encoder: &Encoder, paths: &[String]) -> Result<Vec<f32>, Box<dyn Error>> {
    let files: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    let mut values = vec![0.0; paths.len() * encoder.dimension()];
    encoder.extract_files(&files, &mut values, encoder.dimension(), None, &Cancel::new())?;
    Ok(values)
}

/// Enrols a folder's pictures as a class of the trainer: all but the last.
fn enrol(trainer: &Trainer, encoder: &Encoder, folder: &str, held: &mut Album) -> Result<(), Box<dyn Error>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        paths.push(format!("{folder}/{}", entry?.file_name().to_string_lossy()));
    }
    paths.sort();
    let (first, last) = paths.split_at(paths.len().saturating_sub(1));
    let label = trainer.add_class(folder)?;
    let values = extract(encoder, first)?;
    trainer.add(ArrayView2::from_shape((first.len(), encoder.dimension()), &values)?, &vec![label; first.len()])?;
    held.values.extend(extract(encoder, last)?);
    held.paths.extend_from_slice(last);
    held.labels.resize(held.paths.len(), label);
    Ok(())
}

/// Fits a head to all that was enrolled, keeps it in a file, and judges and uses what the file holds.
fn teach(trainer: &Trainer, file: &str, held: &Album) -> Result<(), Box<dyn Error>> {
    trainer.refit(&FitOptions::default(), &Cancel::new(), None)?.save(file)?;
    let head = Head::load(file)?;
    let values = Array2::from_shape_vec((held.paths.len(), trainer.dimension()), held.values.clone())?;
    let features = Features::labelled(values, held.labels.clone());
    let (classes, others) = (trainer.classes(), held.paths.len());
    let top1 = head.evaluate(&features)?.top1;
    println!("{} classes, {} pictures learned, {top1:.3} of {others} others right", classes.len(), trainer.len());
    for (path, guess) in held.paths.iter().zip(head.predict(features.values.view())?) {
        println!("  {path}: {} {:.3}", classes[guess.label], guess.probability);
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
    let trainer = Trainer::new(encoder.dimension(), Some(encoder.sha256().to_string()))?;
    let mut held = Album::default();
    for (i, folder) in folders.iter().enumerate() {
        enrol(&trainer, &encoder, folder, &mut held)?;
        // Without the last class, and with it.
        if i + 2 >= folders.len() {
            teach(&trainer, file, &held)?;
        }
    }
    Ok(())
}
