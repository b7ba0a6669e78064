//! Removing.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::state::{file, lock, names};
use tare_runtime::cgroup::Cgroup;
use tare_spec::ContainerId;

impl Engine {
    /// Removes a container with its files and its name; a running one only with `force`, which kills it.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::Running`], [`Error::Unkillable`].
    pub fn remove(&self, name: &str, force: bool) -> Result<()> {
        let id = self.resolve(name)?;
        let paths = self.paths.container(&id);
        file::make_directory(&paths.run)?;
        let Some(transition) = lock::acquire(&paths.lock())? else {
            return Err(Error::NoSuchContainer { name: name.to_owned() });
        };
        let loaded = match self.observe(&id) {
            // It removed itself, at its end, just now.
            Err(Error::NoSuchContainer { .. }) => return Ok(()),
            Err(Error::Record { .. } | Error::Unsupported { .. }) if force => return self.remove_unreadable(&id),
            loaded => loaded?,
        };
        if let Some(target) = self.target(&loaded)? {
            if !force {
                return Err(Error::Running { name: name.to_owned() });
            }
            self.end(&loaded, &target)?;
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

    /// Removes a container whose records cannot be read: by its id alone, whatever it is.
    fn remove_unreadable(&self, id: &ContainerId) -> Result<()> {
        let paths = self.paths.container(id);
        Cgroup::open(id)?.kill_all()?;
        let _monitor = lock::acquire(&paths.monitor_lock())?;
        let mut errors = Vec::new();
        errors.extend(self.tear_down(id).err());
        errors.extend(names::release_all(self, id).err());
        errors.extend(file::remove_tree(&paths.directory).err());
        errors.extend(file::remove_tree(&paths.run).err());
        Error::of_clean_up(errors)
    }
}
