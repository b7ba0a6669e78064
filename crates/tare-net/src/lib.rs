//! tare-net
