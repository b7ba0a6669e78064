//! Removing.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::state::lock;

impl Engine {
    /// Removes a container with its files and its name; a running one only with `force`, which kills it.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::Running`], [`Error::Unkillable`].
    pub fn remove(&self, name: &str, force: bool) -> Result<()> {
        let id = self.resolve(name)?;
        let paths = self.paths.container(&id);
        crate::state::file::make_directory(&paths.run)?;
        let Some(transition) = lock::acquire(&paths.lock())? else {
            return Err(Error::NoSuchContainer { name: name.to_owned() });
        };
        let loaded = match self.load_locked(&id, &transition) {
            // It removed itself, at its end, just now.
            Err(Error::NoSuchContainer { .. }) => return Ok(()),
            loaded => loaded?,
        };
        let target = self.target(&loaded)?;
        if let Some(target) = &target {
            if !force {
                return Err(Error::Running { name: name.to_owned() });
            }
            self.end(&loaded, target)?;
        }
        // Waits for a monitor that is still cleaning up; it never waits for us.
        let monitor = lock::acquire(&paths.monitor_lock())?;
        if paths.record().exists() {
            self.tear_down(&id)?;
            self.remove_files(&loaded.record, &paths)?;
        }
        drop((monitor, transition));
        Ok(())
    }
}
