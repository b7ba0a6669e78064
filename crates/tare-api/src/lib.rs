//! tare-api
