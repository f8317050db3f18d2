//! ONNX files that keep tensors in files beside them: the same model with all of them inside.
//!
//! Whoever opens a model from a stranger must not let it name files to read. So this is asked for, never done by itself,
//! and reads only regular files in the model's own folder, links included.

use crate::error::{Error, Result};
use crate::file;
use crate::onnx::reaches_out;
use crate::onnx_proto::TensorProto;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use std::path::{Component, Path, PathBuf};

/// Field numbers of onnx.proto: ModelProto.graph, GraphProto.initializer, TensorProto.raw_data, .external_data and
/// .data_location.
const GRAPH: u32 = 7;
const INITIALIZER: u32 = 5;
const RAW_DATA: u32 = 9;
const EXTERNAL_DATA: u32 = 13;
const DATA_LOCATION: u32 = 14;

/// The bytes of the model at `path` with the initializers of its graph that lie in other files; `bytes` are those of the
/// model's own file. What it holds otherwise stays as it is, byte for byte.
///
/// # Errors
/// [`Error::Onnx`] for damaged bytes, and for a tensor whose data lie outside the model's folder or beyond the end of
/// their file; [`Error::Limit`] where all files together have more than `limit` bytes; [`Error::Io`].
pub fn inline(bytes: &[u8], path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut files =
        Files { folders: folders(path)?, known: Vec::new(), left: limit.saturating_sub(bytes.len() as u64) };
    let limit_of = |left| limit - left;
    let mut rewritten = Vec::with_capacity(bytes.len());
    each(bytes, |tag, whole, content| {
        let Some(graph) = content.filter(|_| tag == GRAPH) else {
            rewritten.extend_from_slice(whole);
            return Ok(());
        };
        let mut inner = Vec::with_capacity(graph.len());
        each(graph, |tag, whole, content| {
            match content.filter(|_| tag == INITIALIZER) {
                Some(tensor) => put(INITIALIZER, &files.tensor(tensor, &limit_of)?, &mut inner),
                None => inner.extend_from_slice(whole),
            }
            Ok(())
        })?;
        put(GRAPH, &inner, &mut rewritten);
        Ok(())
    })?;
    Ok(rewritten)
}

/// The files that were read.
struct Files {
    /// Where they may lie.
    folders: Vec<PathBuf>,
    known: Vec<(String, Vec<u8>)>,
    /// Bytes that may still be read.
    left: u64,
}

impl Files {
    /// A tensor with its data inside.
    fn tensor(&mut self, bytes: &[u8], limit_of: &dyn Fn(u64) -> u64) -> Result<Vec<u8>> {
        let tensor = TensorProto::decode(bytes).map_err(|e| Error::Onnx { why: e.to_string() })?;
        if !reaches_out(&tensor) {
            return Ok(bytes.to_vec());
        }
        let wrong = |why: String| Error::Onnx { why: format!("tensor {:?}: {why}", tensor.name) };
        let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let number = |key: &str| match entry(key) {
            Some(text) => text.parse().map(Some).map_err(|_| wrong(format!("{key} {text:?} is no number"))),
            None => Ok(None),
        };
        let (start, length): (Option<usize>, Option<usize>) = (number("offset")?, number("length")?);
        let name = entry("location").ok_or_else(|| wrong("its data lie elsewhere, but not said where".into()))?;
        let all = self.read(name, &wrong, limit_of)?;
        let start = start.unwrap_or(0);
        let end = length.map_or(Some(all.len()), |length| start.checked_add(length));
        let data = end.and_then(|end| all.get(start..end));
        let data = data.ok_or_else(|| wrong(format!("its data lie beyond the end of {name:?}")))?;
        let mut inside = Vec::with_capacity(bytes.len() + data.len() + 8);
        each(bytes, |tag, whole, _| {
            if ![RAW_DATA, EXTERNAL_DATA, DATA_LOCATION].contains(&tag) {
                inside.extend_from_slice(whole);
            }
            Ok(())
        })?;
        put(RAW_DATA, data, &mut inside);
        Ok(inside)
    }

    fn read(&mut self, name: &str, wrong: &dyn Fn(String) -> Error, limit_of: &dyn Fn(u64) -> u64) -> Result<&[u8]> {
        if let Some(known) = self.known.iter().position(|(known, _)| known == name) {
            return Ok(&self.known[known].1);
        }
        let plain = !name.is_empty() && Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
        let file = self.folders[0].join(name);
        let real = file.canonicalize().map_err(Error::io("read", &file))?;
        if !plain || !self.folders.iter().any(|folder| real.starts_with(folder)) {
            return Err(wrong(format!("its data lie in {name:?}, outside the model's folder")));
        }
        // Looked at first, because opening a pipe would wait for its writer.
        if !real.metadata().map_err(Error::io("read", &file))?.is_file() {
            return Err(wrong(format!("its data lie in {name:?}, which is no regular file")));
        }
        let bytes = file::read(&real, self.left).map_err(|error| match error {
            Error::Limit { name, found, unit, .. } => {
                let read = limit_of(self.left);
                Error::Limit { name, found: read.saturating_add(found), limit: limit_of(0), unit }
            }
            other => other,
        })?;
        self.left -= bytes.len() as u64;
        self.known.push((name.to_owned(), bytes));
        Ok(self.known.last().map_or(&[], |(_, bytes)| bytes))
    }
}

/// The model's folder, and that of the file it is a link to.
fn folders(path: &Path) -> Result<Vec<PathBuf>> {
    let parent = |path: &Path| path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    let own = parent(path).canonicalize().map_err(Error::io("read", path))?;
    let real = parent(&path.canonicalize().map_err(Error::io("read", path))?);
    Ok(vec![own, real])
}

/// Calls `take` with every field of a message: its number, all its bytes, and its content where it has a length.
fn each(mut rest: &[u8], mut take: impl FnMut(u32, &[u8], Option<&[u8]>) -> Result<()>) -> Result<()> {
    let wrong = |why: String| Error::Onnx { why };
    while !rest.is_empty() {
        let start = rest;
        let broken = |e: prost::DecodeError| wrong(e.to_string());
        let (tag, wire_type) = decode_key(&mut rest).map_err(broken)?;
        let mut content = None;
        match wire_type {
            WireType::Varint => drop(decode_varint(&mut rest).map_err(broken)?),
            WireType::LengthDelimited => {
                let length = decode_varint(&mut rest).map_err(broken)?;
                let length = usize::try_from(length).ok().filter(|&length| length <= rest.len());
                let (inside, after) = rest.split_at(length.ok_or_else(|| wrong("a field is cut off".into()))?);
                (content, rest) = (Some(inside), after);
            }
            WireType::ThirtyTwoBit if rest.len() >= 4 => rest = &rest[4..],
            WireType::SixtyFourBit if rest.len() >= 8 => rest = &rest[8..],
            _ => return Err(wrong(format!("field {tag} is of no known form"))),
        }
        take(tag, &start[..start.len() - rest.len()], content)?;
    }
    Ok(())
}

fn put(tag: u32, content: &[u8], out: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx;
    use crate::onnx_proto::{GraphProto, ModelProto, StringStringEntryProto};

    /// A model whose one tensor lies in `location`.
    fn model(location: &str, length: usize) -> Vec<u8> {
        let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
        let tensor = TensorProto {
            dims: vec![2],
            data_type: 1,
            name: "w".into(),
            external_data: vec![
                entry("location", location.into()),
                entry("offset", "4".into()),
                entry("length", length.to_string()),
            ],
            data_location: 1,
            ..TensorProto::default()
        };
        let graph = GraphProto { name: "g".into(), initializer: vec![tensor], ..GraphProto::default() };
        ModelProto { ir_version: 8, graph: Some(graph), ..ModelProto::default() }.encode_to_vec()
    }

    #[test]
    fn tensors_beside_the_model_come_inside_and_no_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("model");
        std::fs::create_dir(&inner).expect("a folder");
        let path = inner.join("m.onnx");
        std::fs::write(inner.join("w.bin"), [9, 9, 9, 9, 1, 2, 3, 4, 5, 6, 7, 8]).expect("a file");
        std::fs::write(folder.path().join("secret"), [0; 64]).expect("a file");
        let bytes = model("w.bin", 8);
        std::fs::write(&path, &bytes).expect("a file");
        let inside = onnx::decode(&inline(&bytes, &path, 1 << 20).expect("all there")).expect("a model");
        let tensor = &inside.graph.expect("a graph").initializer[0];
        assert_eq!(tensor.raw_data, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(tensor.external_data.is_empty() && tensor.data_location == 0 && tensor.name == "w");

        let refused = |location: &str, length: usize| inline(&model(location, length), &path, 1 << 20).unwrap_err();
        assert!(refused("w.bin", 9).to_string().contains("beyond the end"));
        assert!(refused("../secret", 8).to_string().contains("outside"));
        assert!(refused("/etc/hostname", 1).to_string().contains("outside"));
        assert!(matches!(refused("none", 1), Error::Io { .. }));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("../secret", inner.join("link")).expect("a link");
            assert!(refused("link", 8).to_string().contains("outside"));
        }
        std::fs::create_dir(inner.join("folder")).expect("a folder");
        assert!(refused("folder", 8).to_string().contains("no regular file"));
        assert!(matches!(inline(&bytes, &path, bytes.len() as u64 + 5), Err(Error::Limit { .. })));
    }
}
