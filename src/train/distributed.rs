//! Many processes that train one encoder together, each on its part of every batch: data parallelism on libtorch's own
//! c10d, with Gloo between the ranks, and on CUDA with NCCL between their devices.
//!
//! A run file says the whole batch, so that learning rate, tau, schedule and result are the same for any number of ranks:
//! each takes `batch_size / ranks` pictures of a batch, BatchNorm sees all of them (statistics are exchanged forward and
//! backward, as the paper trains), and gradients are means over all. Rank 0 alone writes and speaks.

use crate::c10d::{BETWEEN_RANKS, Group, Place, Store};
use crate::cuda::Nccl;
use crate::error::{Error, Result};
use crate::launch::Launch;
pub use crate::watch::Limits;
use crate::watch::Watch;
use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tch::{Device, Tensor};

/// What carries tensors between ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// NCCL where every rank has it, and Gloo elsewhere.
    #[default]
    Auto,
    /// Gloo, from CPU to CPU; tensors of a CUDA device go through the host's memory.
    Gloo,
    /// NCCL, from CUDA device to CUDA device. What the hosts have to tell each other still goes over Gloo.
    Nccl,
}

/// Names in the order of [`Backend`].
const BACKENDS: [(&str, Backend); 3] = [("auto", Backend::Auto), ("gloo", Backend::Gloo), ("nccl", Backend::Nccl)];

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(BACKENDS.iter().find(|(_, backend)| backend == self).map_or("auto", |(name, _)| name))
    }
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let found = BACKENDS.iter().find(|(name, _)| *name == s).map(|(_, backend)| *backend);
        found.ok_or_else(|| Error::setting("backend", format!("{s:?}"), "known are auto, gloo and nccl"))
    }
}

/// The ranks of a run, as one of them sees them.
#[derive(Debug)]
pub struct Ranks {
    launch: Launch,
    limits: Limits,
    backend: Backend,
    // Dropped in this order: the groups and the watch use the store.
    on_device: OnceLock<OnDevice>,
    lanes: [Arc<Group>; 2],
    gradients: Arc<Group>,
    watch: Watch,
    store: Store,
    prefix: String,
    name: String,
}

/// Groups between the ranks' CUDA devices. The lanes take turns there, so they share one.
#[derive(Debug)]
struct OnDevice {
    lanes: Arc<Group>,
    gradients: Arc<Group>,
}

impl Ranks {
    /// Meets the other ranks; returns once all are there.
    ///
    /// # Errors
    /// [`Error::Ranks`] names the ranks that did not come, or the place where nobody was.
    pub fn join(launch: Launch, limits: Limits) -> Result<Ranks> {
        let Launch { rank, ranks, .. } = launch;
        let (host, port) = (launch.host.as_str(), launch.port);
        let serve = rank == 0 && !launch.launcher_serves;
        let failed = |what: String| move |e: Error| Error::Ranks { why: format!("{what}: {e}") };
        let store = Store::open(host, port, serve, limits.join)
            .map_err(failed(format!("rank {rank} of {ranks} does not reach the meeting place {host}:{port}")))?;
        // A launcher's store outlives the ranks: those that are started anew meet under another name.
        let prefix = format!("byol/{}", launch.restarts);
        let own = format!("rank {rank} (process {} on {})", std::process::id(), host_name());
        store.set(&format!("{prefix}/name/{rank}"), &own)?;
        let all = format!("{prefix}/all");
        if rank == 0 {
            for other in 0..ranks {
                let here = store.get(&format!("{prefix}/name/{other}"), limits.join);
                here.map_err(|_| Error::Ranks {
                    why: format!("rank {other} of {ranks} has not come within {} s", limits.join.as_secs_f64()),
                })?;
            }
            store.set(&all, "here")?;
        }
        // Rank 0 looks for all of them in turn, each as long as this.
        store.get(&all, limits.join * 2).map_err(failed(format!("rank {rank} of {ranks} waited for the others")))?;
        let name_of = |rank: usize| store.get(&format!("{prefix}/name/{rank}"), limits.join);
        let next = (rank + 1) % ranks;
        let keeper = if launch.launcher_serves {
            format!("the launcher's meeting place {host}:{port}")
        } else {
            format!("{}, which keeps the meeting place {host}:{port},", name_of(0)?)
        };
        let watch = Watch::start(store.connect_again()?, &prefix, rank, (next, name_of(next)?), keeper, limits)?;
        let interface = std::env::var("GLOO_SOCKET_IFNAME").ok().filter(|name| !name.is_empty());
        let address = own_address(&launch)?;
        let place = Place { rank, ranks, address: &address, interface: interface.as_deref() };
        // Gloo's own limit is the last resort: the watch is faster, and knows names.
        let patience = limits.hang + limits.silence * 2;
        let open =
            |what: &str| Ok::<_, Error>(Arc::new(Group::open(&store, &format!("{prefix}/{what}"), place, patience)?));
        let lanes = [open("lane0")?, open("lane1")?];
        let gradients = open("gradients")?;
        Ok(Ranks {
            launch,
            limits,
            backend: Backend::Auto,
            on_device: OnceLock::new(),
            lanes,
            gradients,
            watch,
            store,
            prefix,
            name: own,
        })
    }

    /// The same ranks, whose tensors this is to carry; [`Backend::Auto`] where nothing is said.
    pub fn over(self, backend: Backend) -> Ranks {
        Ranks { backend, ..self }
    }

    /// Connects the ranks' devices, before any tensor goes between them; every rank calls it at the same time. Without it,
    /// all goes over Gloo. One sentence for the user, where there is something to say.
    ///
    /// # Errors
    /// [`Error::Setting`] where NCCL was asked for and is not there; [`Error::Collective`].
    pub fn connect(&self, device: Device) -> Result<Option<String>> {
        let backend = self.backend;
        if backend == Backend::Gloo || (backend == Backend::Auto && device == Device::Cpu) {
            return Ok(None);
        }
        let nccl = Nccl::on(device);
        let [having] = self.sum([f64::from(u8::from(nccl.is_ok()))])?;
        let lacking = self.count() - having as usize;
        let why = match nccl {
            Ok(nccl) if lacking == 0 => {
                let patience = self.patience();
                let places = [self.rank(), self.count()];
                // Whom NCCL waits for while it connects is there: all ranks have just met. From now on one that is lost may
                // leave this one in a call that does not come back.
                self.watch.end_process();
                let open = |what: &str| {
                    let name = format!("{}/nccl/{what}", self.prefix);
                    let group = Group::open_nccl(&self.store, &nccl, &name, places, patience)?;
                    // NCCL connects with the first collective.
                    group.sum(&Tensor::f_zeros([1], (tch::Kind::Float, device))?)?;
                    group.settle()?;
                    Ok::<_, Error>(Arc::new(group))
                };
                let _ = self.on_device.set(OnDevice { lanes: open("lanes")?, gradients: open("gradients")? });
                return Ok(Some("The ranks' devices exchange sums over NCCL.".into()));
            }
            Ok(_) => format!("{lacking} of {} ranks do not have it", self.count()),
            Err(why) => why.to_string(),
        };
        if backend == Backend::Nccl {
            return Err(Error::setting("backend", backend, why));
        }
        Ok(Some(format!(
            "The ranks' devices exchange sums over Gloo, through the hosts' memory: NCCL is not used, {why}."
        )))
    }

    /// Longer than the watch takes to find that a rank is lost.
    fn patience(&self) -> Duration {
        self.limits.hang + self.limits.silence * 2
    }

    /// This rank, from 0.
    pub fn rank(&self) -> usize {
        self.launch.rank
    }

    /// How many ranks there are.
    pub fn count(&self) -> usize {
        self.launch.ranks
    }

    /// This rank's place among those on its machine, and how many those are.
    pub fn local(&self) -> (usize, usize) {
        (self.launch.local_rank, self.launch.local_ranks)
    }

    /// One sentence for the user.
    pub fn describe(&self) -> String {
        let Launch { ranks, local_ranks, launcher, .. } = &self.launch;
        let machines = if local_ranks == ranks {
            "this machine".into()
        } else {
            format!("{} machines", ranks.div_ceil(*local_ranks))
        };
        let (silence, hang) = (self.limits.silence.as_secs_f64(), self.limits.hang.as_secs_f64());
        let ranks = if *ranks == 1 { "1 rank".into() } else { format!("{ranks} ranks") };
        format!(
            "{ranks} on {machines}, launched by {launcher}, over Gloo; a rank that is silent for {silence} s, or \
             busy for {hang} s without meeting the others, ends the run."
        )
    }

    /// Sums over all ranks; every rank calls it at the same time.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub fn sum<const N: usize>(&self, values: [f64; N]) -> Result<[f64; N]> {
        let tensor = Tensor::f_from_slice(&values)?;
        self.gradients.sum(&tensor)?;
        let mut sums = [0.0; N];
        tensor.f_copy_data(&mut sums, N)?;
        Ok(sums)
    }

    /// Replaces a tensor by rank 0's.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub fn from_first(&self, tensor: &Tensor) -> Result<()> {
        if tensor.numel() == 0 {
            return Ok(());
        }
        match self.on_device.get() {
            Some(groups) if tensor.device() != Device::Cpu => {
                groups.gradients.broadcast(tensor, 0)?;
                groups.gradients.settle()
            }
            _ => self.gradients.broadcast(tensor, 0),
        }
    }

    /// Waits until the devices have exchanged what they were asked to: before a value of the device's is read, which could
    /// not be called off where a rank was lost.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub(crate) fn settle(&self) -> Result<()> {
        self.on_device.get().map_or(Ok(()), |groups| groups.lanes.settle().and_then(|()| groups.gradients.settle()))
    }

    /// A number of rank 0's, which all get.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub fn number_from_first(&self, number: u64) -> Result<u64> {
        let tensor = Tensor::f_from_slice(&[number as i64])?;
        self.from_first(&tensor)?;
        Ok(tensor.f_int64_value(&[0])? as u64)
    }

    /// A text of rank 0's, which all get.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub fn text_from_first(&self, text: &str) -> Result<String> {
        let length = self.number_from_first(text.len() as u64)? as usize;
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(length, 0);
        let tensor = Tensor::f_from_slice(&bytes)?;
        self.from_first(&tensor)?;
        tensor.f_copy_data(&mut bytes, length)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Refuses tensors that are not the same to the bit on all ranks.
    ///
    /// # Errors
    /// [`Error::Ranks`]; [`Error::Collective`].
    pub fn agree(&self, what: &str, tensor: &Tensor) -> Result<()> {
        // Compared whole: a checksum would depend on how many threads sum it.
        let mut first = tensor.f_zeros_like()?;
        first.f_copy_(tensor)?;
        self.from_first(&first)?;
        let same = tensor.f_equal(&first)?;
        let [differ] = self.sum([f64::from(u8::from(!same))])?;
        if differ > 0.0 {
            let why = format!("{what} is not the same on {differ} of {} ranks as on rank 0", self.count());
            return Err(Error::Ranks { why });
        }
        Ok(())
    }

    /// What this rank's error means to all: where another rank was lost, that rank is named; where it is this rank's own,
    /// the others are told.
    pub fn explain(&self, error: Error) -> Error {
        let text = error.to_string();
        let between = matches!(error, Error::Collective { .. }) || text.contains(BETWEEN_RANKS);
        if between {
            // A broken connection is noticed at once, and whose it was a little later.
            let patience = self.limits.silence + 4 * self.watch.interval();
            return match self.watch.verdict(patience) {
                Some(why) => {
                    self.linger();
                    Error::Ranks { why }
                }
                None => {
                    // Nothing may wait for an answer any more.
                    self.store.abandon();
                    error
                }
            };
        }
        self.watch.fail(&format!("{} ended: {text}", self.name));
        self.linger();
        error
    }

    /// Where the store ends with this process, the others should hear first why.
    fn linger(&self) {
        if self.rank() == 0 && !self.launch.launcher_serves {
            std::thread::sleep(3 * self.watch.interval());
        }
    }

    /// Waits for all ranks to have finished.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub fn finish(&self) -> Result<()> {
        self.sum([0.0])?;
        // All are done. Who leaves first takes connections along; that is no failure any more.
        self.watch.end();
        let _ = self.sum([0.0]);
        if self.rank() == 0 && !self.launch.launcher_serves {
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// The group of a lane, for BatchNorm.
    pub(crate) fn lane(&self, lane: usize) -> &Arc<Group> {
        self.on_device.get().map_or(&self.lanes[lane % 2], |groups| &groups.lanes)
    }

    /// The group of gradients.
    pub(crate) fn gradients(&self) -> &Arc<Group> {
        self.on_device.get().map_or(&self.gradients, |groups| &groups.gradients)
    }
}

/// This rank's own address on the way to where the ranks meet.
fn own_address(launch: &Launch) -> Result<String> {
    let (host, port) = (launch.host.as_str(), launch.port);
    let wrong = |why: String| Error::Ranks { why };
    let all = (host, port).to_socket_addrs().map_err(|e| wrong(format!("the host {host:?} is not known: {e}")))?;
    let to = all.min_by_key(SocketAddr::is_ipv6).ok_or_else(|| wrong(format!("the host {host:?} has no address")))?;
    let mut own = toward(to).map_err(|e| wrong(format!("there is no way to {to}: {e}")))?;
    if own.is_loopback() && launch.local_ranks < launch.ranks {
        // Rank 0's own name often means 127.0.1.1 at home: what the others reach is the way out.
        own = toward(SocketAddr::from(([192, 0, 2, 1], 9))).unwrap_or(own);
    }
    Ok(own.to_string())
}

/// The address that this machine would send from. Connecting a datagram socket sends nothing.
fn toward(to: SocketAddr) -> std::io::Result<IpAddr> {
    let any: IpAddr = if to.is_ipv6() { [0u16; 8].into() } else { [0u8; 4].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "an unnamed host".into() } else { name.into() }
}
