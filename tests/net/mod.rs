//! Networks and published ports, seen from outside.

mod bridge;
mod modes;
mod ports;
