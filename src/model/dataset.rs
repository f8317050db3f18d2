//! Pictures on disk, with labels where there are any: IDX files, plain or gzipped, a folder of image files, a list of
//! files, tar files, or Parquet files.

use crate::catalogue::Catalogue;
use crate::error::{Error, Result};
use crate::file;
use crate::parquet_pictures::{self, Labels, Pictures};
use crate::picture::{InputContract, Limits, Picture};
use crate::tar_shards::{self, Member};
use flate2::read::MultiGzDecoder;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// File name endings that count as pictures in a folder.
const PICTURE_ENDINGS: [&str; 9] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "jpe"];
/// Largest IDX file, unpacked, in bytes.
const MAX_IDX_BYTES: u64 = 16 << 30;
/// Largest list of files in bytes.
const MAX_LIST_BYTES: u64 = 1 << 30;
/// Most classes that numbers in tar files may count.
const MAX_CLASSES: u32 = 1 << 20;

/// Which part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// `train-*` IDX files, or the folder `train`.
    Train,
    /// `t10k-*` IDX files, or the folder `test` or `val`.
    Test,
}

/// Pictures that can be asked for one by one. Cheap to clone.
///
/// Of files, members of tar files and rows of Parquet files only a few bytes each are kept in memory: a label where there
/// are labels, and parts of the list of names; what is more lies in a temporary file. IDX files are read whole.
#[derive(Clone, Debug)]
pub struct Dataset {
    path: PathBuf,
    source: Source,
    rows: Rows,
    labels: Option<Arc<[u32]>>,
    classes: Arc<[String]>,
    limits: Limits,
}

/// Positions in the source.
#[derive(Clone, Debug)]
enum Rows {
    Range(Range<usize>),
    Picked(Arc<[usize]>),
}

impl Rows {
    fn len(&self) -> usize {
        match self {
            Rows::Range(range) => range.len(),
            Rows::Picked(rows) => rows.len(),
        }
    }

    /// # Panics
    /// If there is no row of this number.
    fn at(&self, index: usize) -> usize {
        match self {
            Rows::Range(range) => {
                assert!(index < range.len(), "picture {index} of {}", range.len());
                range.start + index
            }
            Rows::Picked(rows) => rows[index],
        }
    }
}

#[derive(Clone, Debug)]
enum Source {
    /// Gray pictures `[n, height, width]` in memory.
    Idx { pixels: Arc<[u8]>, height: usize, width: usize },
    /// Files.
    Files(Arc<Catalogue>),
    /// Members of tar files.
    Tar { shards: Arc<[PathBuf]>, members: Arc<Catalogue> },
    /// Rows of Parquet files.
    Parquet(Arc<Pictures>),
}

impl Dataset {
    /// Opens a folder, an `*-images-idx3-ubyte[.gz]` file, a `.tar` or `.parquet` file, or a `.txt` list of files.
    ///
    /// A folder with IDX files named as MNIST's gives the asked split. Otherwise the folder's sub-folder `train`,
    /// `test` or `val` is taken where it exists. Folders in it are classes, in the order of their names; pictures
    /// directly in it have no labels. A folder of `.tar` files (WebDataset) is read in the order of their names. So is
    /// one of `.parquet` files (Hugging Face's image column), or its sub-folder `data`; where the files are named by parts
    /// (`train-00000-of-00004.parquet`), those of the split. A list holds one path a line, relative to the list; empty lines and those that begin with `#` do not count.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Dataset`] for a folder without pictures, a truncated or foreign IDX file, or labels
    /// that do not match the pictures.
    pub fn open(path: &Path, split: Split) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
        if metadata.is_file() {
            return match ending(path).as_deref() {
                Some("tar") => Self::open_tar(path, vec![path.into()]),
                Some("parquet") => Self::open_parquet(path, &[path.into()]),
                Some("txt" | "lst") => Self::open_list(path),
                _ => Self::open_idx(path),
            };
        }
        let prefix = match split {
            Split::Train => "train",
            Split::Test => "t10k",
        };
        for ending in ["", ".gz"] {
            let images = path.join(format!("{prefix}-images-idx3-ubyte{ending}"));
            if images.exists() {
                return Self::open_idx(&images);
            }
        }
        if path.join("train-images-idx3-ubyte").exists() || path.join("train-images-idx3-ubyte.gz").exists() {
            return Err(wrong(path, format!("it has training images, but no {prefix}-images-idx3-ubyte[.gz]")));
        }
        for folder in [path.to_path_buf(), path.join("data")] {
            let files = if folder.is_dir() { ending_in(&folder, "parquet")? } else { Vec::new() };
            if files.is_empty() {
                continue;
            }
            let parts: &[&str] = match split {
                Split::Train => &["train"],
                Split::Test => &["test", "val", "valid", "validation"],
            };
            let files = parquet_pictures::of_part(files, parts);
            if files.is_empty() {
                return Err(wrong(&folder, format!("none of its Parquet files begins with {}", parts.join(" or "))));
            }
            return Self::open_parquet(path, &files);
        }
        let names: &[&str] = match split {
            Split::Train => &["train"],
            Split::Test => &["test", "val"],
        };
        match names.iter().map(|name| path.join(name)).find(|folder| folder.is_dir()) {
            Some(folder) => Self::open_unsplit(&folder),
            None if split == Split::Test => {
                Err(wrong(path, "it has no test part: no folder test or val, no t10k-images-idx3-ubyte[.gz]".into()))
            }
            None => Self::open_unsplit(path),
        }
    }

    fn open_unsplit(folder: &Path) -> Result<Self> {
        let tables = ending_in(folder, "parquet")?;
        if !tables.is_empty() {
            return Self::open_parquet(folder, &tables);
        }
        let shards = ending_in(folder, "tar")?;
        if shards.is_empty() { Self::open_folder(folder) } else { Self::open_tar(folder, shards) }
    }

    fn open_tar(path: &Path, shards: Vec<PathBuf>) -> Result<Self> {
        let (members, labels) = tar_shards::open(&shards, &has_picture_ending)?;
        if members.len() == 0 {
            let why =
                format!("no pictures in {} tar files (members ending in {})", shards.len(), PICTURE_ENDINGS.join(", "));
            return Err(wrong(path, why));
        }
        let highest = labels.iter().flatten().copied().max();
        if highest.is_some_and(|highest| highest >= MAX_CLASSES) {
            return Err(wrong(path, format!("class {} is beyond {MAX_CLASSES}", highest.unwrap_or(0))));
        }
        Ok(Self {
            path: path.into(),
            rows: Rows::Range(0..members.len()),
            source: Source::Tar { shards: shards.into(), members: Arc::new(members) },
            labels: labels.map(Into::into),
            classes: highest.map(|highest| (0..=highest).map(|c| c.to_string()).collect()).unwrap_or_default(),
            limits: Limits::default(),
        })
    }

    fn open_parquet(path: &Path, files: &[PathBuf]) -> Result<Self> {
        let (pictures, labels) = parquet_pictures::open(files)?;
        if pictures.len() == 0 {
            return Err(wrong(path, "no rows".into()));
        }
        let highest = labels.as_ref().and_then(|labels| labels.numbers.iter().copied().max());
        if highest.is_some_and(|highest| highest >= MAX_CLASSES) {
            return Err(wrong(path, format!("class {} is beyond {MAX_CLASSES}", highest.unwrap_or(0))));
        }
        let numbered = || highest.map(|highest| (0..=highest).map(|c| c.to_string()).collect()).unwrap_or_default();
        let (labels, classes) = match labels {
            Some(Labels { numbers, names }) => (Some(numbers.into()), names.unwrap_or_else(numbered)),
            None => (None, Vec::new()),
        };
        let rows = Rows::Range(0..pictures.len());
        let (source, classes) = (Source::Parquet(Arc::new(pictures)), classes.into());
        Ok(Self { path: path.into(), source, rows, labels, classes, limits: Limits::default() })
    }

    fn open_list(path: &Path) -> Result<Self> {
        let bytes = file::read(path, MAX_LIST_BYTES)?;
        let text = String::from_utf8(bytes).map_err(|_| wrong(path, "a list of files is UTF-8 text".into()))?;
        let beside = path.parent().unwrap_or(Path::new("."));
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut files = Catalogue::default();
        lines.for_each(|line| push_file(&mut files, &beside.join(line)));
        if files.len() == 0 {
            return Err(wrong(path, "the list names no file".into()));
        }
        Ok(Self::of_files(path.into(), files, None, Vec::new()))
    }

    /// Opens the files named, unlabelled, in the order given.
    pub fn from_files(files: Vec<PathBuf>) -> Self {
        let mut names = Catalogue::default();
        files.iter().for_each(|file| push_file(&mut names, file));
        Self::of_files(files.into_iter().next().unwrap_or_default(), names, None, Vec::new())
    }

    fn of_files(path: PathBuf, files: Catalogue, labels: Option<Vec<u32>>, classes: Vec<String>) -> Self {
        Self {
            path,
            rows: Rows::Range(0..files.len()),
            source: Source::Files(Arc::new(files)),
            labels: labels.map(Into::into),
            classes: classes.into(),
            limits: Limits::default(),
        }
    }

    fn open_idx(path: &Path) -> Result<Self> {
        let (shape, pixels) = read_idx(path)?;
        let [count, height, width] = shape[..] else {
            return Err(wrong(path, format!("images have 3 dimensions, this file has {shape:?}")));
        };
        if count == 0 || height == 0 || width == 0 {
            return Err(wrong(path, format!("it is empty: {count} pictures of {width} x {height}")));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name(name.replace("images-idx3", "labels-idx1"));
        let other = match beside.extension().is_some_and(|e| e == "gz") {
            true => beside.with_extension(""),
            false => PathBuf::from(format!("{}.gz", beside.display())),
        };
        let mut labels = None;
        let mut classes = Vec::new();
        if let Some(file) = [beside, other].into_iter().find(|f| f != path && f.exists()) {
            let (shape, bytes) = read_idx(&file)?;
            if shape != [count] {
                return Err(wrong(&file, format!("labels of shape {shape:?} do not match {count} pictures")));
            }
            let highest = bytes.iter().copied().max().unwrap_or(0);
            classes = (0..=highest).map(|c| c.to_string()).collect();
            labels = Some(bytes.into_iter().map(u32::from).collect());
        }
        Ok(Self {
            path: path.into(),
            source: Source::Idx { pixels: pixels.into(), height, width },
            rows: Rows::Range(0..count),
            labels,
            classes: classes.into(),
            limits: Limits::default(),
        })
    }

    fn open_folder(folder: &Path) -> Result<Self> {
        let mut files = Catalogue::default();
        let mut labels = Vec::new();
        let mut classes = Vec::new();
        let inside = Entries::of(folder)?;
        for class in inside.folders() {
            let before = files.len();
            let path = folder.join(&class);
            pictures_below(&path, &mut files)?;
            if files.len() == before {
                return Err(wrong(&path, "a class folder without pictures; fill it or remove it".into()));
            }
            labels.resize(files.len(), classes.len() as u32);
            classes.push(class.to_string_lossy().into_owned());
        }
        let mut flat = inside.pictures().peekable();
        if let (Some(first), true) = (flat.peek(), files.len() > 0) {
            let why =
                format!("it has class folders, and {} beside them: move it into one", folder.join(first).display());
            return Err(wrong(folder, why));
        }
        let labels = if flat.peek().is_none() { Some(labels) } else { None };
        flat.for_each(|name| push_file(&mut files, &folder.join(name)));
        if files.len() == 0 {
            let why = format!("no pictures found (files ending in {})", PICTURE_ENDINGS.join(", "));
            return Err(wrong(folder, why));
        }
        Ok(Self::of_files(folder.into(), files, labels, classes))
    }

    /// Sets the limits on decoding.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no picture.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where it was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Class names; empty without labels.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The class of each picture, an index into [`Dataset::classes`].
    pub fn labels(&self) -> Option<&[u32]> {
        self.labels.as_deref()
    }

    /// What a picture is called: its file, or its number in an IDX file.
    pub fn name(&self, index: usize) -> String {
        let row = self.rows.at(index);
        match &self.source {
            Source::Idx { .. } => format!("{}#{row}", self.path.display()),
            Source::Files(files) => match files.get(row) {
                Ok(entry) => path_of(entry.name).display().to_string(),
                Err(_) => self.nameless(row),
            },
            Source::Tar { shards, members } => match members.get(row) {
                Ok(entry) => named(shards, &entry.into()),
                Err(_) => self.nameless(row),
            },
            Source::Parquet(pictures) => pictures.name(row),
        }
    }

    /// The name of a picture whose own cannot be read from the temporary file any more.
    fn nameless(&self, row: usize) -> String {
        format!("{}#{row}", self.path.display())
    }

    /// The names of all pictures in their order; faster than [`Dataset::name`] of each.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let mut entries: Option<Box<dyn Iterator<Item = _>>> = match (&self.source, &self.rows) {
            (Source::Files(list) | Source::Tar { members: list, .. }, Rows::Range(range)) => {
                Some(Box::new(list.iter_from(range.start)))
            }
            _ => None,
        };
        (0..self.len()).map(move |index| match (entries.as_mut().and_then(Iterator::next), &self.source) {
            (Some(Ok(entry)), Source::Files(_)) => path_of(entry.name).display().to_string(),
            (Some(Ok(entry)), Source::Tar { shards, .. }) => named(shards, &entry.into()),
            _ => self.name(index),
        })
    }

    /// A picture's file; `None` for pictures out of an IDX, tar or Parquet file.
    pub fn file(&self, index: usize) -> Option<PathBuf> {
        match &self.source {
            Source::Idx { .. } | Source::Tar { .. } | Source::Parquet(_) => None,
            Source::Files(files) => Some(path_of(files.get(self.rows.at(index)).ok()?.name)),
        }
    }

    /// Reads and decodes one picture.
    ///
    /// # Errors
    /// As [`Picture::open`].
    pub fn picture(&self, index: usize) -> Result<Picture> {
        self.decoded(index, None)
    }

    /// As [`Dataset::picture`], for somebody who will bring it to `contract`'s size: a large photograph may come at a
    /// fraction of its size ([`Picture::decode_for`]).
    ///
    /// # Errors
    /// As [`Picture::open`].
    pub fn picture_for(&self, index: usize, contract: &InputContract) -> Result<Picture> {
        self.decoded(index, Some(contract))
    }

    fn decoded(&self, index: usize, contract: Option<&InputContract>) -> Result<Picture> {
        let row = self.rows.at(index);
        let list = |e: io::Error| Error::Io { action: "read", path: self.path.clone(), source: e };
        let decode = |bytes: &[u8], name: &str| match contract {
            Some(contract) => Picture::decode_for(bytes, &self.limits, name, contract),
            None => Picture::decode(bytes, &self.limits, name),
        };
        match &self.source {
            Source::Idx { pixels, height, width } => {
                let size = height * width;
                let pixels = pixels[row * size..(row + 1) * size].to_vec();
                Ok(Picture { channels: 1, width: *width, height: *height, pixels })
            }
            Source::Files(files) => {
                let path = path_of(files.get(row).map_err(list)?.name);
                decode(&file::read(&path, self.limits.max_file_bytes)?, &path.display().to_string())
            }
            Source::Tar { shards, members } => {
                let member: Member = members.get(row).map_err(list)?.into();
                let bytes = member.read(&shards[member.shard], self.limits.max_file_bytes)?;
                decode(&bytes, &named(shards, &member))
            }
            Source::Parquet(pictures) => {
                let bytes = pictures.read(row, self.limits.max_file_bytes)?;
                decode(&bytes, &self.name(index))
            }
        }
    }

    /// Reads one picture without decoding it; `None` where the pictures lie in memory anyway.
    ///
    /// # Errors
    /// As [`Picture::open`].
    pub fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>> {
        let (row, limit) = (self.rows.at(index), self.limits.max_file_bytes);
        let list = |e: io::Error| Error::Io { action: "read", path: self.path.clone(), source: e };
        match &self.source {
            Source::Idx { .. } => Ok(None),
            Source::Files(files) => file::read(&path_of(files.get(row).map_err(list)?.name), limit).map(Some),
            Source::Tar { shards, members } => {
                let member: Member = members.get(row).map_err(list)?.into();
                member.read(&shards[member.shard], limit).map(Some)
            }
            Source::Parquet(pictures) => pictures.read(row, limit).map(Some),
        }
    }

    /// Decodes what [`encoded`](Self::encoded) read.
    ///
    /// # Errors
    /// As [`Picture::decode`].
    pub fn decode(&self, index: usize, encoded: &[u8]) -> Result<Picture> {
        Picture::decode(encoded, &self.limits, &self.name(index))
    }

    /// How many consecutive pictures lie in each file that holds many: what is best read front to back.
    ///
    /// # Errors
    /// [`Error::Io`] where the list of a tar file's members cannot be read.
    pub fn runs(&self) -> Result<Vec<usize>> {
        let mut runs = Vec::new();
        let mut last = None;
        for row in (0..self.len()).map(|index| self.rows.at(index)) {
            let file = match &self.source {
                Source::Idx { .. } | Source::Files(_) => 0,
                Source::Tar { members, .. } => {
                    let member: Member = members
                        .get(row)
                        .map_err(|source| Error::Io { action: "read", path: self.path.clone(), source })?
                        .into();
                    member.shard
                }
                Source::Parquet(pictures) => pictures.shard_of(row),
            };
            match runs.last_mut() {
                Some(run) if last == Some(file) => *run += 1,
                _ => runs.push(1),
            }
            last = Some(file);
        }
        Ok(runs)
    }

    /// The pictures at `rows`, in that order.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let mut part = self.clone();
        part.rows = Rows::Picked(rows.iter().map(|&r| self.rows.at(r)).collect());
        part.labels = self.labels.as_ref().map(|labels| rows.iter().map(|&r| labels[r]).collect());
        part
    }

    /// Part `part` (from 0) of `parts`, consecutive pictures. Parts are disjoint, together they are everything, and one
    /// after the other they are in order.
    ///
    /// # Errors
    /// [`Error::Dataset`] unless `part < parts`, or for a part without pictures.
    pub fn part(&self, part: usize, parts: usize) -> Result<Self> {
        if part >= parts {
            return Err(wrong(&self.path, format!("there is no part {part} of {parts}; they count from 0")));
        }
        let at = |part: usize| (part as u128 * self.len() as u128 / parts as u128) as usize;
        let range = at(part)..at(part + 1);
        if range.is_empty() {
            let why = format!("part {part} of {parts} is empty: there are {} pictures", self.len());
            return Err(wrong(&self.path, why));
        }
        let mut found = self.clone();
        found.labels = self.labels.as_ref().map(|labels| labels[range.clone()].into());
        found.rows = match &self.rows {
            Rows::Range(all) => Rows::Range(all.start + range.start..all.start + range.end),
            Rows::Picked(rows) => Rows::Picked(rows[range].into()),
        };
        Ok(found)
    }

    /// SHA-256 (hex) of the pictures' names in their order: whether two lists are the same.
    pub fn fingerprint(&self) -> String {
        file::sha256_hex_of(self.names().map(|name| name + "\n"))
    }

    /// One sentence: how many pictures, of how many classes, from where.
    pub fn describe(&self) -> String {
        let classes = match self.classes.len() {
            0 => "without labels".into(),
            n => format!("of {n} classes"),
        };
        format!("{} pictures {classes} from {}", self.len(), self.path.display())
    }
}

fn wrong(path: &Path, why: String) -> Error {
    Error::Dataset { path: path.into(), why }
}

/// A member of a tar file by the name that people see.
fn named(shards: &[PathBuf], member: &Member) -> String {
    format!("{}:{}", shards[member.shard].display(), member.name)
}

fn push_file(files: &mut Catalogue, file: &Path) {
    files.push(&bytes_of(file.as_os_str()), [0; 3]);
}

/// A path as bytes. Where the system's names are no bytes, what is not Unicode in them is lost.
#[cfg(unix)]
fn bytes_of(name: &OsStr) -> std::borrow::Cow<'_, [u8]> {
    std::os::unix::ffi::OsStrExt::as_bytes(name).into()
}

#[cfg(unix)]
fn path_of(bytes: Vec<u8>) -> PathBuf {
    <OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes).into()
}

#[cfg(not(unix))]
fn bytes_of(name: &OsStr) -> std::borrow::Cow<'_, [u8]> {
    name.to_string_lossy().into_owned().into_bytes().into()
}

#[cfg(not(unix))]
fn path_of(bytes: Vec<u8>) -> PathBuf {
    OsString::from(String::from_utf8_lossy(&bytes).into_owned()).into()
}

/// What a folder holds, in the order of the names. The names lie in one piece of memory: there may be millions.
struct Entries {
    names: Vec<u8>,
    /// Where a name begins, its length, and whether it is a folder.
    entries: Vec<(usize, u32, bool)>,
}

impl Entries {
    /// Folders, also behind links, and files that may be pictures; hidden ones are passed over.
    fn of(folder: &Path) -> Result<Self> {
        let mut found = Self { names: Vec::new(), entries: Vec::new() };
        let mut read = || -> io::Result<()> {
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                let name = entry.file_name();
                if name.to_string_lossy().starts_with('.') {
                    continue;
                }
                let mut kind = entry.file_type()?;
                if kind.is_symlink() {
                    // A link that leads nowhere is nothing.
                    let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
                    kind = metadata.file_type();
                }
                if kind.is_dir() || (kind.is_file() && has_picture_ending(Path::new(&name))) {
                    let first = found.names.len();
                    found.names.extend_from_slice(&bytes_of(&name));
                    found.entries.push((first, (found.names.len() - first) as u32, kind.is_dir()));
                }
            }
            Ok(())
        };
        read().map_err(Error::io("read", folder))?;
        let name = |&(first, length, _): &(usize, u32, bool)| &found.names[first..first + length as usize];
        found.entries.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        Ok(found)
    }

    fn all(&self) -> impl Iterator<Item = (OsString, bool)> {
        self.entries.iter().map(|&(first, length, is_folder)| {
            (path_of(self.names[first..first + length as usize].to_vec()).into(), is_folder)
        })
    }

    fn folders(&self) -> impl Iterator<Item = OsString> {
        self.all().filter_map(|(name, is_folder)| is_folder.then_some(name))
    }

    fn pictures(&self) -> impl Iterator<Item = OsString> {
        self.all().filter_map(|(name, is_folder)| (!is_folder).then_some(name))
    }
}

/// What stands behind the last dot, in lower case.
fn ending(path: &Path) -> Option<String> {
    path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase())
}

fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// A folder's files of this ending, in the order of their names.
fn ending_in(folder: &Path, wanted: &str) -> Result<Vec<PathBuf>> {
    let fits = |path: &PathBuf| ending(path).as_deref() == Some(wanted) && path.is_file() && !hidden(path);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
        found.extend(Some(entry.map_err(Error::io("read", folder))?.path()).filter(fits));
    }
    found.sort();
    Ok(found)
}

fn has_picture_ending(path: &Path) -> bool {
    ending(path).is_some_and(|e| PICTURE_ENDINGS.contains(&e.as_str()))
}

/// All pictures below a class folder, however deep. Links to folders are not followed.
fn pictures_below(folder: &Path, files: &mut Catalogue) -> Result<()> {
    for (name, is_folder) in Entries::of(folder)?.all() {
        let path = folder.join(name);
        if !is_folder {
            push_file(files, &path);
        } else if !path.is_symlink() {
            pictures_below(&path, files)?;
        }
    }
    Ok(())
}

/// Reads an IDX file of bytes: its shape and its values. Format: two zero bytes, type 8, number of dimensions, each
/// dimension as 32 bit big-endian, values (LeCun's MNIST page).
fn read_idx(path: &Path) -> Result<(Vec<usize>, Vec<u8>)> {
    let packed = file::read(path, MAX_IDX_BYTES)?;
    let bytes = if packed.starts_with(&[0x1f, 0x8b]) {
        let mut bytes = Vec::new();
        let read = MultiGzDecoder::new(&packed[..]).take(MAX_IDX_BYTES).read_to_end(&mut bytes);
        read.map_err(|e| wrong(path, format!("its gzip data are damaged or truncated: {e}")))?;
        bytes
    } else {
        packed
    };
    let [0, 0, 8, dimensions, rest @ ..] = &bytes[..] else {
        return Err(wrong(path, "it is no IDX file of bytes (it should begin with 00 00 08)".into()));
    };
    let dimensions = usize::from(*dimensions);
    let Some((sizes, values)) = rest.split_at_checked(4 * dimensions) else {
        return Err(wrong(path, format!("truncated: {dimensions} dimensions announced, the header ends early")));
    };
    let shape: Vec<usize> = sizes.as_chunks().0.iter().map(|b| u32::from_be_bytes(*b) as usize).collect();
    let expected = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if expected != Some(values.len()) {
        let why = format!("shape {shape:?} is announced, {} values follow: truncated or damaged", values.len());
        return Err(wrong(path, why));
    }
    Ok((shape, values.to_vec()))
}
