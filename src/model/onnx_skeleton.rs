//! An ONNX file without the numbers of its tensors: everything that tells what a model is, in a few kilobytes.
//!
//! A model file is almost all weights. They are passed over, not read, so that looking into a file costs neither its size
//! in memory nor its length in time. What remains is a protobuf message of the same form, for the same decoder.

use std::io::{self, BufRead, BufReader, Read, Seek};

/// Smaller fields than this are read through, larger ones are jumped over.
const BUFFER: usize = 16 << 10;

/// Why a file has no skeleton.
#[derive(Debug)]
pub(crate) enum Flaw {
    /// It could not be read.
    Io(io::Error),
    /// It is no protobuf message.
    Form(&'static str),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Flaw::Form("it ends early"),
            _ => Flaw::Io(error),
        }
    }
}

/// Where in the file a field lies (onnx.proto3).
#[derive(Clone, Copy)]
enum Level {
    Model,
    Graph,
    Tensor,
}

/// What to do with a field that has a length.
enum Treatment {
    Keep,
    Drop,
    Enter(Level),
}

impl Level {
    fn treatment(self, field: u64) -> Treatment {
        match (self, field) {
            (Level::Model, 7) => Treatment::Enter(Level::Graph),
            (Level::Graph, 5) => Treatment::Enter(Level::Tensor),
            // Recorded shapes of inner values.
            (Level::Graph, 13) => Treatment::Drop,
            // float, int32, string, int64, raw, double and uint64 data.
            (Level::Tensor, 4..=7 | 9..=11) => Treatment::Drop,
            (Level::Model | Level::Graph | Level::Tensor, _) => Treatment::Keep,
        }
    }
}

/// The skeleton of the file that `file` reads from here on, which has `length` bytes.
pub(crate) fn read(file: impl Read + Seek, length: u64) -> Result<Vec<u8>, Flaw> {
    let mut reader = Reader { file: BufReader::with_capacity(BUFFER, file), at: 0 };
    let mut out = Vec::new();
    reader.message(length, Level::Model, &mut out)?;
    Ok(out)
}

struct Reader<R> {
    file: BufReader<R>,
    at: u64,
}

impl<R: Read + Seek> Reader<R> {
    /// Copies the message that ends at `end`, less what is dropped.
    fn message(&mut self, end: u64, level: Level, out: &mut Vec<u8>) -> Result<(), Flaw> {
        while self.at < end {
            let key = self.number(end)?;
            match key & 7 {
                0 => {
                    let value = self.number(end)?;
                    put(key, out);
                    put(value, out);
                }
                wire @ (1 | 5) => {
                    put(key, out);
                    self.copy(if wire == 1 { 8 } else { 4 }, end, out)?;
                }
                2 => {
                    let length = self.number(end)?;
                    if length > end - self.at {
                        return Err(Flaw::Form("a field is longer than what holds it"));
                    }
                    match level.treatment(key >> 3) {
                        Treatment::Drop => self.skip(length)?,
                        Treatment::Keep => {
                            put(key, out);
                            put(length, out);
                            self.copy(length, end, out)?;
                        }
                        Treatment::Enter(inner) => {
                            let mut part = Vec::new();
                            self.message(self.at + length, inner, &mut part)?;
                            put(key, out);
                            put(part.len() as u64, out);
                            out.append(&mut part);
                        }
                    }
                }
                _ => return Err(Flaw::Form("a field of an unknown kind")),
            }
        }
        Ok(())
    }

    /// A number of 7 bits a byte.
    fn number(&mut self, end: u64) -> Result<u64, Flaw> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            if self.at >= end {
                return Err(Flaw::Form("it ends inside a number"));
            }
            self.file.read_exact(&mut byte)?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(Flaw::Form("a number of more than 64 bits"))
    }

    fn copy(&mut self, length: u64, end: u64, out: &mut Vec<u8>) -> Result<(), Flaw> {
        if length > end - self.at {
            return Err(Flaw::Form("it ends early"));
        }
        // `take` reads what is there, so that a length that lies allocates nothing.
        let copied = self.file.by_ref().take(length).read_to_end(out)? as u64;
        self.at += copied;
        if copied < length { Err(Flaw::Form("it ends early")) } else { Ok(()) }
    }

    fn skip(&mut self, length: u64) -> Result<(), Flaw> {
        self.at += length;
        match i64::try_from(length) {
            // The last byte is read, because a jump beyond the end would go unnoticed.
            Ok(length) if length > BUFFER as i64 => {
                self.file.seek_relative(length - 1)?;
                if self.file.fill_buf()?.is_empty() {
                    return Err(Flaw::Form("it ends early"));
                }
                self.file.consume(1);
                Ok(())
            }
            Ok(_) => {
                let skipped = io::copy(&mut self.file.by_ref().take(length), &mut io::sink())?;
                if skipped < length { Err(Flaw::Form("it ends early")) } else { Ok(()) }
            }
            Err(_) => Err(Flaw::Form("a field of more than 2^63 bytes")),
        }
    }
}

fn put(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx_proto::{GraphProto, ModelProto, NodeProto, TensorProto};
    use prost::Message;
    use std::io::Cursor;

    fn model(values: usize) -> ModelProto {
        let numbers = TensorProto {
            dims: vec![values as i64],
            name: "raw".into(),
            raw_data: vec![7; 4 * values],
            ..Default::default()
        };
        let floats = TensorProto {
            float_data: vec![1.5; values],
            name: "floats".into(),
            data_location: 1,
            ..Default::default()
        };
        let node = NodeProto { op_type: "Conv".into(), input: vec!["raw".into()], ..Default::default() };
        let graph =
            GraphProto { node: vec![node], initializer: vec![numbers, floats], name: "g".into(), ..Default::default() };
        ModelProto { ir_version: 9, producer_name: "p".into(), graph: Some(graph), ..Default::default() }
    }

    fn skeleton(bytes: &[u8]) -> Result<Vec<u8>, Flaw> {
        read(Cursor::new(bytes), bytes.len() as u64)
    }

    #[test]
    fn everything_but_the_numbers_remains() {
        for values in [1, 100, 100_000] {
            let mut expected = model(values);
            let found = skeleton(&expected.encode_to_vec()).unwrap();
            assert!(found.len() < 200, "{} bytes", found.len());
            for tensor in &mut expected.graph.as_mut().unwrap().initializer {
                (tensor.raw_data, tensor.float_data) = (Vec::new(), Vec::new());
            }
            assert_eq!(ModelProto::decode(&found[..]).unwrap(), expected);
        }
    }

    #[test]
    fn every_truncation_is_noticed_as_the_decoder_would() {
        let bytes = model(8000).encode_to_vec();
        for length in (1..bytes.len()).step_by(97).chain(bytes.len() - 40..bytes.len()) {
            let noticed = match skeleton(&bytes[..length]) {
                Ok(found) => ModelProto::decode(&found[..]).is_err(),
                Err(_) => true,
            };
            assert_eq!(noticed, ModelProto::decode(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
            // A file that was cut after its length was asked for.
            assert!(read(Cursor::new(&bytes[..length]), bytes.len() as u64).is_err(), "{length}");
        }
    }

    #[test]
    fn lengths_that_lie_are_errors_and_allocate_nothing() {
        let graph_of_2_63 = [0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(matches!(skeleton(&graph_of_2_63), Err(Flaw::Form(_))));
        assert!(matches!(read(Cursor::new(&graph_of_2_63[..]), u64::MAX), Err(Flaw::Form(_))));
        assert!(matches!(skeleton(&[0x0b]), Err(Flaw::Form(_))), "a group");
        assert!(matches!(skeleton(&[0xff; 12]), Err(Flaw::Form(_))), "a number without an end");
    }
}
