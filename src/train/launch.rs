//! Which rank this process is, as its launcher says: `torchrun`, SLURM's `srun`, Open MPI's or MPICH's `mpirun`.

use crate::error::{Error, Result};

/// A process's place among those that were launched together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// This process, from 0.
    pub rank: usize,
    /// All processes.
    pub ranks: usize,
    /// This process among those on its machine, from 0.
    pub local_rank: usize,
    /// Processes on this machine.
    pub local_ranks: usize,
    /// Host where the ranks meet: rank 0's.
    pub host: String,
    /// Port where they meet.
    pub port: u16,
    /// Whether the launcher itself keeps the meeting place, as torchrun's agent does.
    pub launcher_serves: bool,
    /// How often the launcher has started these ranks anew.
    pub restarts: usize,
    /// Who launched it, for messages.
    pub launcher: &'static str,
}

/// How a launcher names what it says: rank, ranks, local rank, local ranks.
struct Names {
    launcher: &'static str,
    rank: &'static str,
    ranks: &'static str,
    local_rank: &'static [&'static str],
    local_ranks: &'static [&'static str],
    /// Must be set too, or the variables mean something else.
    given: Option<&'static str>,
}

/// In the order in which they are looked for: `mpirun` inside a SLURM job sets both.
static LAUNCHERS: [Names; 4] = [
    Names {
        launcher: "torchrun",
        rank: "RANK",
        ranks: "WORLD_SIZE",
        local_rank: &["LOCAL_RANK"],
        local_ranks: &["LOCAL_WORLD_SIZE"],
        given: None,
    },
    Names {
        launcher: "Open MPI",
        rank: "OMPI_COMM_WORLD_RANK",
        ranks: "OMPI_COMM_WORLD_SIZE",
        local_rank: &["OMPI_COMM_WORLD_LOCAL_RANK"],
        local_ranks: &["OMPI_COMM_WORLD_LOCAL_SIZE"],
        given: None,
    },
    Names {
        launcher: "MPICH",
        rank: "PMI_RANK",
        ranks: "PMI_SIZE",
        local_rank: &["MPI_LOCALRANKID", "PMI_LOCAL_RANK"],
        local_ranks: &["MPI_LOCALNRANKS", "PMI_LOCAL_SIZE"],
        given: None,
    },
    // In a batch script outside srun SLURM_PROCID is 0 and no other process is there.
    Names {
        launcher: "SLURM",
        rank: "SLURM_PROCID",
        ranks: "SLURM_STEP_NUM_TASKS",
        local_rank: &["SLURM_LOCALID"],
        local_ranks: &["SLURM_STEP_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE"],
        given: Some("SLURM_STEP_ID"),
    },
];

/// torchrun's own default, for launchers that name no port.
const PORT: u16 = 29_500;

impl Launch {
    /// What the environment says; none where this process was launched alone.
    ///
    /// # Errors
    /// [`Error::Launch`] names the variable that is missing or makes no sense.
    pub fn from_environment() -> Result<Option<Launch>> {
        Self::from_variables(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// A process that is its own and only rank, on a port that is free.
    pub fn alone() -> Launch {
        Launch {
            rank: 0,
            ranks: 1,
            local_rank: 0,
            local_ranks: 1,
            host: "127.0.0.1".into(),
            port: 0,
            launcher_serves: false,
            restarts: 0,
            launcher: "hand",
        }
    }

    /// As [`from_environment`](Self::from_environment), from variables that `get` knows.
    ///
    /// # Errors
    /// [`Error::Launch`].
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Option<Launch>> {
        let Some(names) = LAUNCHERS
            .iter()
            .find(|names| get(names.rank).is_some() && names.given.is_none_or(|name| get(name).is_some()))
        else {
            return Ok(None);
        };
        let number = |name: &'static str| -> Result<Option<usize>> {
            let Some(value) = get(name) else { return Ok(None) };
            match leading_number(&value) {
                Some(number) => Ok(Some(number)),
                None => Err(wrong(name, format!("is {value:?}, which is no number"))),
            }
        };
        let needed = |name: &'static str| {
            number(name)?.ok_or_else(|| wrong(name, format!("is not set, but {} is: was it lost?", names.rank)))
        };
        let first = |all: &'static [&'static str]| -> Result<Option<usize>> {
            all.iter().find(|name| get(name).is_some()).map_or(Ok(None), |name| number(name))
        };
        let (rank, ranks) = (needed(names.rank)?, needed(names.ranks)?);
        if rank >= ranks {
            return Err(wrong(names.rank, format!("is {rank}, but there are only {ranks} ranks, counted from 0")));
        }
        if ranks == 1 {
            return Ok(None);
        }
        let local_ranks = first(names.local_ranks)?.filter(|n| (1..=ranks).contains(n)).unwrap_or(1);
        let local_rank = first(names.local_rank)?.unwrap_or(0);
        let here = || (local_ranks == ranks).then(|| "127.0.0.1".to_owned());
        let nodes = || {
            let list = ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"].iter().find_map(|name| get(name))?;
            first_node(&list)
        };
        let host = get("MASTER_ADDR").or_else(here).or_else(nodes).ok_or_else(|| {
            wrong("MASTER_ADDR", format!("is not set, and {} names no host: set it to rank 0's host", names.launcher))
        })?;
        let port = match number("MASTER_PORT")? {
            Some(port) => {
                u16::try_from(port).map_err(|_| wrong("MASTER_PORT", format!("is {port}, which is no port")))?
            }
            // Two jobs on one machine should not meet.
            None => number("SLURM_JOB_ID")?.map_or(PORT, |job| 15_000 + (job % 10_000) as u16),
        };
        Ok(Some(Launch {
            rank,
            ranks,
            local_rank,
            local_ranks,
            host,
            port,
            launcher_serves: get("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True"),
            restarts: number("TORCHELASTIC_RESTART_COUNT")?.unwrap_or(0),
            launcher: names.launcher,
        }))
    }
}

fn wrong(variable: &'static str, why: String) -> Error {
    Error::Launch { variable, why }
}

/// SLURM writes `4(x2)` for four tasks on each of two machines.
fn leading_number(value: &str) -> Option<usize> {
    let digits = value.split(['(', ',']).next()?;
    digits.trim().parse().ok()
}

/// The first of SLURM's list of machines: `node[003-007,9],other` begins with `node003`.
fn first_node(list: &str) -> Option<String> {
    let end = list.find([',', '[']).unwrap_or(list.len());
    let mut name = list[..end].to_owned();
    if let Some(ranges) = list[end..].strip_prefix('[') {
        name.push_str(ranges.split([',', '-', ']']).next()?);
        // What stands behind the brackets belongs to each machine's name.
        let after = ranges.split_once(']')?.1;
        name.push_str(after.split(',').next()?);
    }
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Launch>> {
        Launch::from_variables(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    fn places(launch: &Launch) -> [usize; 4] {
        [launch.rank, launch.ranks, launch.local_rank, launch.local_ranks]
    }

    #[test]
    fn a_process_alone_is_no_rank() {
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&[("RANK", "0"), ("WORLD_SIZE", "1")]).unwrap(), None);
        // A batch script outside srun.
        assert_eq!(of(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "8")]).unwrap(), None);
    }

    #[test]
    fn torchrun_is_understood() {
        let set = [
            ("RANK", "5"),
            ("WORLD_SIZE", "8"),
            ("LOCAL_RANK", "1"),
            ("LOCAL_WORLD_SIZE", "4"),
            ("MASTER_ADDR", "node-a"),
            ("MASTER_PORT", "41000"),
            ("TORCHELASTIC_USE_AGENT_STORE", "True"),
            ("TORCHELASTIC_RESTART_COUNT", "2"),
        ];
        let launch = of(&set).unwrap().unwrap();
        assert_eq!(places(&launch), [5, 8, 1, 4]);
        assert_eq!(
            (launch.host.as_str(), launch.port, launch.launcher_serves, launch.restarts),
            ("node-a", 41000, true, 2)
        );
    }

    #[test]
    fn slurm_is_understood_and_its_first_machine_is_where_the_ranks_meet() {
        let set = [
            ("SLURM_PROCID", "3"),
            ("SLURM_STEP_ID", "0"),
            ("SLURM_STEP_NUM_TASKS", "8"),
            ("SLURM_LOCALID", "3"),
            ("SLURM_STEP_TASKS_PER_NODE", "4(x2)"),
            ("SLURM_STEP_NODELIST", "gpu[013-014]"),
            ("SLURM_JOB_ID", "1234567"),
        ];
        let launch = of(&set).unwrap().unwrap();
        assert_eq!(places(&launch), [3, 8, 3, 4]);
        assert_eq!((launch.host.as_str(), launch.port), ("gpu013", 19_567));
        for (list, first) in [("a", "a"), ("a,b", "a"), ("n[1,5-7]", "n1"), ("r[2-3]-ib,x", "r2-ib")] {
            assert_eq!(first_node(list).as_deref(), Some(first), "{list}");
        }
    }

    #[test]
    fn both_kinds_of_mpi_are_understood() {
        let open = [
            ("OMPI_COMM_WORLD_RANK", "1"),
            ("OMPI_COMM_WORLD_SIZE", "2"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
            // mpirun inside a SLURM job.
            ("SLURM_PROCID", "0"),
            ("SLURM_STEP_ID", "0"),
            ("SLURM_STEP_NUM_TASKS", "1"),
        ];
        let launch = of(&open).unwrap().unwrap();
        assert_eq!((places(&launch), launch.host.as_str(), launch.port), ([1, 2, 1, 2], "127.0.0.1", PORT));
        let mpich = [("PMI_RANK", "2"), ("PMI_SIZE", "4"), ("MPI_LOCALRANKID", "0"), ("MPI_LOCALNRANKS", "2")];
        let message = of(&mpich).unwrap_err().to_string();
        assert!(message.contains("MASTER_ADDR") && message.contains("MPICH"), "{message}");
    }

    #[test]
    fn a_variable_that_makes_no_sense_is_named() {
        for (set, part) in [
            (vec![("RANK", "x"), ("WORLD_SIZE", "2")], "RANK is \"x\""),
            (vec![("RANK", "0")], "WORLD_SIZE is not set"),
            (vec![("RANK", "2"), ("WORLD_SIZE", "2")], "RANK is 2"),
            (vec![("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "a"), ("MASTER_PORT", "70000")], "MASTER_PORT"),
        ] {
            let message = of(&set).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
