//! The loop.

use super::log::{LogFile, Stream};
use super::note;
use super::protocol::{Connection, Envelope, Exec, Failure, Reply, Request, Streams, VERSION};
use super::streams::{Read, Token, Watch, What, Written, read, set_nonblocking, write};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitIdStatus};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use tare_spec::ErrorKind;

/// How long a client may leave its last bytes unread before they are dropped, in milliseconds.
const LAST_BYTES_PATIENCE: u32 = 10_000;

/// The monitor's side of a container's streams.
#[derive(Debug, Default)]
pub struct ContainerStreams {
    /// Write end of its standard input, if that is kept open.
    pub stdin: Option<OwnedFd>,
    /// Read end of its standard output.
    pub stdout: Option<OwnedFd>,
    /// Read end of its standard error.
    pub stderr: Option<OwnedFd>,
    /// Master side of its terminal, instead of the three.
    pub terminal: Option<OwnedFd>,
    /// Whether its standard input ends with the first client's that ends.
    pub stdin_once: bool,
}

/// A process started for [`Request::Exec`].
#[derive(Debug)]
pub struct Executed {
    /// Its process id on the host.
    pub pid: i32,
    /// Its pidfd; the caller of [`Supervisor::run`] is its parent.
    pub pidfd: OwnedFd,
    /// Master side of its terminal, for the client.
    pub terminal: Option<OwnedFd>,
}

/// Carries out [`Request::Exec`].
pub type Executor<'a> = dyn FnMut(Exec, Vec<OwnedFd>) -> Result<Executed, Failure> + 'a;

/// What a monitor does that is asked to end, by a signal: the machine is shut down.
#[derive(Debug)]
pub struct Termination {
    /// Readable when the signal came ([`tare_sys::signal::descriptor`]).
    pub asked: OwnedFd,
    /// What asks the container to end.
    pub signal: Signal,
    /// How long it may take before it is killed; without bound when absent.
    pub patience: Option<Duration>,
}

#[derive(Debug, Default)]
struct Client {
    connection: Option<Connection>,
    input: Option<OwnedFd>,
    outputs: [Option<OwnedFd>; 2],
    pending: [Vec<u8>; 2],
    process: Option<OwnedFd>,
    /// Waits for [`Reply::Started`].
    wants_start: bool,
    /// Waits for [`Reply::Exited`] of the container.
    wants_exit: bool,
}

/// Owner of a container's streams and of the connections to it.
#[derive(Debug)]
pub struct Supervisor {
    watch: Watch,
    listener: OwnedFd,
    log: LogFile,
    clients: BTreeMap<u32, Client>,
    next_client: u32,
    /// Out of descriptors: nobody is accepted.
    deaf: bool,
    pid: Option<i32>,
    input: Option<OwnedFd>,
    input_pending: Vec<u8>,
    stdin_once: bool,
    /// No more input follows what is pending.
    input_ends: bool,
    outputs: [Option<OwnedFd>; 2],
    termination: Option<Termination>,
    /// When the container is killed that was asked to end.
    deadline: Option<Instant>,
    terminal: Option<OwnedFd>,
    /// The terminal's other side, held so that the master does not report an end while no process has it open.
    _terminal_peer: Option<OwnedFd>,
    buffer: Vec<u8>,
}

/// How long a container has run that will probably run for a while.
const SETTLED: Duration = Duration::from_millis(200);

const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];
const OUTPUTS: [What; 2] = [What::Output, What::Error];

impl Supervisor {
    /// Prepares the loop. `starter` is the connection of the client that started this process: its first requests are
    /// served before the container starts.
    ///
    /// # Errors
    /// Of epoll(7).
    pub fn new(listener: OwnedFd, starter: Option<Connection>, log: LogFile) -> io::Result<Self> {
        let watch = Watch::new()?;
        watch.add(&listener, Token::container(What::Listener), EventFlags::IN)?;
        let mut supervisor = Self {
            watch,
            listener,
            log,
            clients: BTreeMap::new(),
            next_client: 1,
            deaf: false,
            pid: None,
            input: None,
            input_pending: Vec::new(),
            stdin_once: false,
            input_ends: false,
            outputs: [None, None],
            termination: None,
            deadline: None,
            terminal: None,
            _terminal_peer: None,
            buffer: Vec::with_capacity(32 * 1024),
        };
        if let Some(connection) = starter {
            supervisor.add_client(connection, true)?;
        }
        Ok(supervisor)
    }

    /// Takes the container's streams and serves what the starter has asked already.
    ///
    /// # Errors
    /// Of fcntl(2) and epoll(7).
    pub fn adopt(&mut self, streams: ContainerStreams) -> io::Result<()> {
        self.stdin_once = streams.stdin_once;
        if let Some(terminal) = streams.terminal {
            set_nonblocking(terminal.as_fd())?;
            self.input = Some(duplicate(&terminal)?);
            self.outputs[0] = Some(duplicate(&terminal)?);
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            self._terminal_peer = Some(rustix::pty::ioctl_tiocgptpeer(&terminal, flags)?);
            self.terminal = Some(terminal);
        } else {
            self.input = streams.stdin;
            self.outputs = [streams.stdout, streams.stderr];
        }
        for (output, what) in self.outputs.iter().zip(OUTPUTS) {
            if let Some(fd) = output {
                set_nonblocking(fd.as_fd())?;
                self.watch.add(fd, Token::container(what), EventFlags::IN)?;
            }
        }
        if let Some(fd) = &self.input {
            set_nonblocking(fd.as_fd())?;
            self.watch.add(fd, Token::container(What::Input), EventFlags::empty())?;
        }
        let waiting: Vec<u32> = self.clients.keys().copied().collect();
        for id in waiting {
            self.serve(id, &mut |_, _| Err(refusal(ErrorKind::Conflict, "the container is not running yet")));
        }
        Ok(())
    }

    /// Says what to do when this process is asked to end; without it the signal ends it, and the container goes on alone.
    ///
    /// # Errors
    /// Of epoll(7).
    pub fn on_termination(&mut self, termination: Termination) -> io::Result<()> {
        self.watch.add(&termination.asked, Token::container(What::Termination), EventFlags::IN)?;
        self.termination = Some(termination);
        Ok(())
    }

    /// Tells the starter that the container runs.
    pub fn started(&mut self, pid: i32) {
        self.pid = Some(pid);
        let ids: Vec<u32> = self.clients.iter().filter(|(_, c)| c.wants_start).map(|(id, _)| *id).collect();
        for id in ids {
            self.reply(id, &Reply::Started { pid });
        }
    }

    /// Tells the starter that the container could not be started.
    pub fn failed(mut self, failure: &Failure) {
        let ids: Vec<u32> = self.clients.keys().copied().collect();
        for id in ids {
            self.reply(id, &Reply::Failed(failure.clone()));
        }
    }

    /// Serves the container until its first process has ended and all it wrote is in the log.
    ///
    /// # Errors
    /// Of epoll(7). The process is left to the caller to reap.
    pub fn run(&mut self, init: BorrowedFd<'_>, executor: &mut Executor<'_>) -> io::Result<()> {
        self.watch.add(init, Token::container(What::Process), EventFlags::IN)?;
        // What set the container up is not needed while it runs; giving it back is not worth its while for a short run.
        let mut settles = Some(Instant::now() + SETTLED);
        loop {
            let mut ended = false;
            let next = [self.deadline, settles].into_iter().flatten().min();
            let left = next.map(|time| time.saturating_duration_since(Instant::now()));
            let milliseconds = left.map(|left| u32::try_from(left.as_millis()).unwrap_or(u32::MAX).saturating_add(1));
            let events = self.watch.wait(milliseconds)?;
            if settles.take_if(|time| *time <= Instant::now()).is_some() {
                tare_sys::memory::release_free();
            }
            if events.is_empty() && self.deadline.take_if(|time| *time <= Instant::now()).is_some() {
                signal(init, Signal::KILL)?;
            }
            for (token, flags) in events {
                match (token.client, token.what) {
                    (0, What::Termination) => self.terminate(init)?,
                    (0, What::Listener) => self.accept()?,
                    (0, What::Process) => ended = true,
                    (0, What::Input) => self.input_event(flags),
                    (0, What::Output) => self.forward(0),
                    (0, What::Error) => self.forward(1),
                    (id, What::Connection) => self.serve(id, executor),
                    (id, what) => self.client_event(id, what, flags),
                }
            }
            if ended {
                self.watch.remove(init);
                break;
            }
        }
        for index in 0..2 {
            while self.read_output(index) {}
        }
        if let Err(error) = self.log.finish() {
            log_failed(&error);
        }
        Ok(())
    }

    /// Gives clients their last bytes, then tells those who wait how the container ended. Call it when the container is
    /// cleaned up: what clients do next may rely on that.
    ///
    /// # Errors
    /// Of epoll(7).
    pub fn finish(mut self, code: i32) -> io::Result<()> {
        self.outputs = [None, None];
        self.input = None;
        self.accept()?;
        let waiting: Vec<u32> = self.clients.keys().copied().collect();
        for id in waiting {
            self.serve(id, &mut has_ended);
        }
        loop {
            let flushed: Vec<u32> =
                self.clients.iter().filter(|(_, c)| c.pending.iter().all(Vec::is_empty)).map(|(id, _)| *id).collect();
            for id in flushed {
                if let Some(client) = self.clients.get_mut(&id) {
                    client.outputs = [None, None];
                    if client.wants_exit {
                        self.reply(id, &Reply::Exited { code });
                    }
                }
                self.clients.remove(&id);
            }
            if self.clients.is_empty() {
                return Ok(());
            }
            let events = self.watch.wait(Some(LAST_BYTES_PATIENCE))?;
            if events.is_empty() {
                return Ok(());
            }
            for (token, flags) in events {
                match (token.client, token.what) {
                    (0, _) => self.watch.remove(&self.listener),
                    (id, What::Connection) => self.serve(id, &mut has_ended),
                    (id, what) => self.client_event(id, what, flags),
                }
            }
        }
    }

    fn terminate(&mut self, init: BorrowedFd<'_>) -> io::Result<()> {
        let Some(termination) = &self.termination else { return Ok(()) };
        if tare_sys::signal::take(&termination.asked) && self.deadline.is_none() {
            signal(init, termination.signal)?;
            self.deadline = termination.patience.map(|patience| Instant::now() + patience);
        }
        Ok(())
    }

    fn add_client(&mut self, connection: Connection, starter: bool) -> io::Result<()> {
        let id = self.next_client;
        self.next_client += 1;
        let token = Token { client: id, what: What::Connection };
        self.watch.add(&connection, token, EventFlags::IN | EventFlags::RDHUP)?;
        let client = Client { connection: Some(connection), wants_start: starter, ..Client::default() };
        self.clients.insert(id, client);
        Ok(())
    }

    /// Takes all who wait for a connection.
    fn accept(&mut self) -> io::Result<()> {
        loop {
            match rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC) {
                Ok(socket) => self.add_client(Connection::from(socket), false)?,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => {
                    // They stay in the queue until a client has gone: watched on, the queue would keep the loop busy.
                    self.deaf = true;
                    self.watch.remove(&self.listener);
                    return Ok(());
                }
                // Who wanted to connect went away again.
                Err(_) => {}
            }
        }
    }

    /// A client has gone, and with it some descriptors: there may be room for one that waits.
    fn listen_again(&mut self) {
        if self.deaf && self.watch.add(&self.listener, Token::container(What::Listener), EventFlags::IN).is_ok() {
            self.deaf = false;
        }
    }

    fn reply(&mut self, id: u32, reply: &Reply) {
        let Some(client) = self.clients.get(&id) else { return };
        let sent = client.connection.as_ref().map(|connection| connection.send(reply, &[]));
        if let Some(Err(_)) = sent {
            self.disconnect(id);
        }
    }

    /// Forgets a client; a process it started stays watched until it can be reaped.
    fn disconnect(&mut self, id: u32) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let blocked = client.pending.iter().any(|pending| !pending.is_empty());
        if client.process.is_some() {
            *client = Client { process: client.process.take(), ..Client::default() };
        } else {
            self.clients.remove(&id);
        }
        if blocked {
            self.resume();
        }
        self.listen_again();
    }

    fn serve(&mut self, id: u32, executor: &mut Executor<'_>) {
        loop {
            let Some(connection) = self.clients.get(&id).and_then(|client| client.connection.as_ref()) else { return };
            match connection.try_receive::<Envelope>() {
                Ok(Some((Envelope { version: VERSION, request }, descriptors))) => {
                    self.handle(id, request, descriptors, executor);
                }
                Ok(Some((envelope, _))) => {
                    let text = format!(
                        "the container's monitor speaks version {VERSION} of its protocol, not {}",
                        envelope.version
                    );
                    self.reply(id, &Reply::Failed(refusal(ErrorKind::NotImplemented, &text)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    let text = format!("the container's monitor does not understand the request: {error}");
                    self.reply(id, &Reply::Failed(refusal(ErrorKind::InvalidParameter, &text)));
                    return self.disconnect(id);
                }
                Ok(None) | Err(_) => return self.disconnect(id),
            }
        }
    }

    fn handle(&mut self, id: u32, request: Request, descriptors: Vec<OwnedFd>, executor: &mut Executor<'_>) {
        match request {
            Request::Attach(streams) => match self.attach(id, streams, descriptors) {
                Ok(()) => {
                    if let Some(pid) = self.pid {
                        self.reply(id, &Reply::Started { pid });
                    }
                }
                Err(error) => {
                    let text = format!("cannot attach: {error}");
                    self.reply(id, &Reply::Failed(refusal(ErrorKind::InvalidParameter, &text)));
                }
            },
            Request::Exec(exec) => match executor(*exec, descriptors) {
                Ok(executed) => self.add_process(id, executed),
                Err(failure) => self.reply(id, &Reply::Failed(failure)),
            },
            Request::Resize { rows, columns } => {
                if let Some(terminal) = &self.terminal {
                    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                    // A size that the terminal refuses leaves it as it was; nobody waits for an answer.
                    let _ = rustix::termios::tcsetwinsize(terminal, size);
                }
            }
            Request::Wait => {
                if let Some(client) = self.clients.get_mut(&id) {
                    client.wants_exit = true;
                }
            }
        }
    }

    fn attach(&mut self, id: u32, streams: Streams, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let wanted = [streams.stdin, streams.stdout, streams.stderr];
        if descriptors.len() != wanted.iter().filter(|wanted| **wanted).count() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "one descriptor a stream is needed"));
        }
        let mut descriptors = descriptors.into_iter();
        let mut taken = wanted.map(|wanted| if wanted { descriptors.next() } else { None });
        for fd in taken.iter().flatten() {
            set_nonblocking(fd.as_fd())?;
        }
        let input_events = if self.input_pending.is_empty() { EventFlags::IN } else { EventFlags::empty() };
        let [input, output, error] = &mut taken;
        if self.input.is_none() {
            // The container has no standard input: the client's is closed, so that it sees that nobody reads.
            *input = None;
        }
        let watched = [
            (&*input, What::Input, input_events),
            (&*output, What::Output, EventFlags::empty()),
            (&*error, What::Error, EventFlags::empty()),
        ];
        for (fd, what, events) in watched {
            if let Some(fd) = fd {
                self.watch.add(fd, Token { client: id, what }, events)?;
            }
        }
        if let Some(client) = self.clients.get_mut(&id) {
            client.input = input.take();
            client.outputs = [output.take(), error.take()];
            client.wants_exit = true;
        }
        Ok(())
    }

    fn add_process(&mut self, id: u32, executed: Executed) {
        let token = Token { client: id, what: What::Process };
        // Without a watch nobody would learn of its end: report that instead of a start.
        if let Err(error) = self.watch.add(&executed.pidfd, token, EventFlags::IN) {
            let text = format!("cannot watch process {}: {error}", executed.pid);
            return self.reply(id, &Reply::Failed(refusal(ErrorKind::Internal, &text)));
        }
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.process = Some(executed.pidfd);
        let terminal: Vec<BorrowedFd<'_>> = executed.terminal.iter().map(AsFd::as_fd).collect();
        let sent = client
            .connection
            .as_ref()
            .map(|connection| connection.send(&Reply::Started { pid: executed.pid }, &terminal));
        if let Some(Err(_)) = sent {
            self.disconnect(id);
        }
    }

    fn client_event(&mut self, id: u32, what: What, flags: EventFlags) {
        match what {
            What::Input => self.read_client(id),
            What::Output => self.write_client(id, 0, flags),
            What::Error => self.write_client(id, 1, flags),
            What::Process => self.reap(id),
            What::Listener | What::Connection | What::Termination => {}
        }
    }

    /// An exec'd process ended: its code goes to whoever started it.
    fn reap(&mut self, id: u32) {
        let Some(process) = self.clients.get_mut(&id).and_then(|client| client.process.take()) else { return };
        self.watch.remove(&process);
        let code = exit_code(process.as_fd()).unwrap_or(255);
        self.reply(id, &Reply::Exited { code });
        if self.clients.get(&id).is_some_and(|client| client.connection.is_none()) {
            self.clients.remove(&id);
        }
    }

    fn forward(&mut self, index: usize) {
        self.read_output(index);
        if self.clients.values().any(|client| !client.pending[index].is_empty()) {
            self.watch_output(index, EventFlags::empty());
        }
    }

    /// Reads once from the container; false when there is nothing more.
    fn read_output(&mut self, index: usize) -> bool {
        let Some(output) = &self.outputs[index] else { return false };
        let count = match read(output, &mut self.buffer) {
            Read::Bytes(count) => count,
            Read::Nothing => return false,
            Read::End => {
                self.watch.remove(output);
                self.outputs[index] = None;
                for client in self.clients.values_mut().filter(|client| client.pending[index].is_empty()) {
                    client.outputs[index] = None;
                }
                return false;
            }
        };
        if let Err(error) = self.log.append(STREAMS[index], &self.buffer[..count]) {
            // The first failure only; the container goes on, as with a full disk under any other program.
            log_failed(&error);
        }
        for (id, client) in &mut self.clients {
            let Some(fd) = &client.outputs[index] else { continue };
            let bytes = &self.buffer[..count];
            let done = if client.pending[index].is_empty() { write(fd, bytes) } else { Written::Bytes(0) };
            match done {
                Written::Bytes(done) if done == count => {}
                Written::Bytes(done) => {
                    client.pending[index].extend_from_slice(&bytes[done..]);
                    let token = Token { client: *id, what: OUTPUTS[index] };
                    self.watch.change(fd, token, EventFlags::OUT).expect("a descriptor that is watched can be changed");
                }
                Written::Closed => {
                    client.outputs[index] = None;
                    client.pending[index].clear();
                }
            }
        }
        true
    }

    fn watch_output(&self, index: usize, events: EventFlags) {
        if let Some(output) = &self.outputs[index] {
            self.watch
                .change(output, Token::container(OUTPUTS[index]), events)
                .expect("a descriptor that is watched can be changed");
        }
    }

    /// Reads the container's output again where no client holds it up.
    fn resume(&self) {
        for index in 0..2 {
            if self.clients.values().all(|client| client.pending[index].is_empty()) {
                self.watch_output(index, EventFlags::IN);
            }
        }
    }

    fn write_client(&mut self, id: u32, index: usize, flags: EventFlags) {
        let ended = self.outputs[index].is_none();
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Some(fd) = &client.outputs[index] else { return };
        let closed = match write(fd, &client.pending[index]) {
            Written::Bytes(done) => {
                client.pending[index].drain(..done);
                flags.contains(EventFlags::ERR)
            }
            Written::Closed => true,
        };
        if closed {
            client.pending[index].clear();
        }
        if !client.pending[index].is_empty() {
            return;
        }
        client.pending[index].shrink_to_fit();
        if closed || ended {
            self.watch.remove(fd);
            client.outputs[index] = None;
        } else {
            let token = Token { client: id, what: OUTPUTS[index] };
            self.watch.change(fd, token, EventFlags::empty()).expect("a descriptor that is watched can be changed");
        }
        self.resume();
    }

    fn read_client(&mut self, id: u32) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Some(fd) = &client.input else { return };
        match read(fd, &mut self.buffer) {
            Read::Nothing => {}
            Read::Bytes(count) => {
                self.input_pending.extend_from_slice(&self.buffer[..count]);
                self.write_input();
            }
            Read::End => {
                self.watch.remove(fd);
                client.input = None;
                if self.stdin_once && self.terminal.is_none() {
                    self.input_ends = true;
                    self.write_input();
                }
            }
        }
    }

    fn close_input(&mut self) {
        self.input_pending = Vec::new();
        if let Some(input) = self.input.take() {
            self.watch.remove(&input);
        }
        for client in self.clients.values_mut() {
            if let Some(fd) = client.input.take() {
                self.watch.remove(&fd);
            }
        }
    }

    /// The container took input, or closed its end, which the kernel reports for as long as the descriptor is watched.
    fn input_event(&mut self, flags: EventFlags) {
        if flags.intersects(EventFlags::ERR | EventFlags::HUP) && self.terminal.is_none() {
            self.close_input();
        } else {
            self.write_input();
        }
    }

    /// Writes what clients sent; stops reading from them while the container does not take it.
    fn write_input(&mut self) {
        let Some(input) = &self.input else { return };
        match write(input, &self.input_pending) {
            Written::Closed => return self.close_input(),
            Written::Bytes(done) => {
                self.input_pending.drain(..done);
            }
        }
        let full = !self.input_pending.is_empty();
        if !full && self.input_ends {
            return self.close_input();
        }
        let token = Token::container(What::Input);
        let events = if full { EventFlags::OUT } else { EventFlags::empty() };
        self.watch.change(input, token, events).expect("a descriptor that is watched can be changed");
        let events = if full { EventFlags::empty() } else { EventFlags::IN };
        for (id, client) in &self.clients {
            if let Some(fd) = &client.input {
                let token = Token { client: *id, what: What::Input };
                self.watch.change(fd, token, events).expect("a descriptor that is watched can be changed");
            }
        }
    }
}

fn log_failed(error: &io::Error) {
    note(format_args!("tare-monitor: writing the log: {error}"));
}

/// Signals a process; that it has ended already is no error.
fn signal(process: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    match rustix::process::pidfd_send_signal(process, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn duplicate(fd: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}

/// Answers who asks for a process too late.
fn has_ended(_: Exec, _: Vec<OwnedFd>) -> Result<Executed, Failure> {
    Err(refusal(ErrorKind::Conflict, "the container has ended"))
}

fn refusal(kind: ErrorKind, message: &str) -> Failure {
    Failure { kind, message: message.to_owned(), hint: None, exit_code: None }
}

/// Reaps the ended child behind a pidfd: its exit code, or 128 + the signal that killed it.
///
/// # Errors
/// waitid(2)'s.
fn exit_code(pidfd: BorrowedFd<'_>) -> io::Result<i32> {
    let status: Option<WaitIdStatus> =
        rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED))?;
    let status = status.ok_or_else(|| io::Error::from(io::ErrorKind::WouldBlock))?;
    Ok(status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(255))
}
