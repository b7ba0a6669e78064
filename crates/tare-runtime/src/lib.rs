//! tare-runtime
