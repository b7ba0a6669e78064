//! Commands for containers.

pub(crate) mod attach;
pub(crate) mod commit;
pub(crate) mod create;
pub(crate) mod diff;
pub(crate) mod exec;
pub(crate) mod export;
pub(crate) mod inspect;
pub(crate) mod kill;
pub(crate) mod logs;
pub(crate) mod ls;
pub(crate) mod port;
pub(crate) mod prune;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod wait;
