//! A connection between a program and its server that drops, stalls and slows on command.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Passes everything on.
    Whole,
    /// Closes every connection, and new ones at once.
    Dropping,
    /// Keeps connections open and passes nothing on.
    Stalled,
    /// Passes on after this delay, at most so many bytes at once.
    Slow(Duration, usize),
}

struct State {
    network: Mutex<Network>,
    open: Mutex<Vec<TcpStream>>,
    over: AtomicBool,
}

/// Listens on a port of its own and passes on to a server.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

impl Proxy {
    /// Before this server.
    pub fn before(server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            network: Mutex::new(Network::Whole),
            open: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let accepting = state.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { continue };
                if accepting.over.load(Ordering::Relaxed) {
                    return;
                }
                if *accepting.network.lock().unwrap() == Network::Dropping {
                    continue;
                }
                let Ok(upstream) = TcpStream::connect(server) else { continue };
                let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
                accepting.carry(&client, &upstream);
                accepting.carry(&upstream, &client);
                accepting.open.lock().unwrap().extend([client, upstream]);
            }
        });
        Proxy { address, state }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what the network does, for connections there are and those to come.
    pub fn set(&self, network: Network) {
        *self.state.network.lock().unwrap() = network;
        if network == Network::Dropping {
            self.cut();
        }
    }

    /// Closes the connections there are; new ones are welcome.
    pub fn cut(&self) {
        for connection in self.state.open.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
        self.set(Network::Dropping);
        // Wakes the thread that accepts, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    /// Carries bytes one way until an end closes, on a thread of its own.
    fn carry(self: &Arc<Self>, from: &TcpStream, to: &TcpStream) {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let state = self.clone();
        thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            loop {
                let most = match *state.network.lock().unwrap() {
                    Network::Slow(_, most) => most.clamp(1, buffer.len()),
                    _ => buffer.len(),
                };
                let Ok(length @ 1..) = from.read(&mut buffer[..most]) else { break };
                loop {
                    let network = *state.network.lock().unwrap();
                    match network {
                        Network::Stalled => thread::sleep(Duration::from_millis(5)),
                        Network::Slow(delay, _) => break thread::sleep(delay),
                        Network::Whole | Network::Dropping => break,
                    }
                }
                if to.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Answers every byte with itself.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let mut to = connection.unwrap();
                let mut from = to.try_clone().unwrap();
                thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
        });
        address
    }

    fn says(connection: &mut TcpStream, wait: Duration) -> std::io::Result<()> {
        connection.set_read_timeout(Some(wait))?;
        connection.write_all(b"hello")?;
        connection.read_exact(&mut [0; 5])
    }

    #[test]
    fn it_passes_stalls_slows_and_drops() {
        let proxy = Proxy::before(echo());
        let connect = || TcpStream::connect(proxy.address()).unwrap();
        let (long, short) = (Duration::from_secs(5), Duration::from_millis(100));
        let mut connection = connect();
        says(&mut connection, long).unwrap();
        proxy.set(Network::Slow(Duration::from_millis(50), 5));
        let began = Instant::now();
        says(&mut connection, long).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(90), "slow both ways");
        proxy.set(Network::Stalled);
        assert!(says(&mut connection, short).is_err());
        proxy.set(Network::Whole);
        // What was held back comes.
        connection.set_read_timeout(Some(long)).unwrap();
        connection.read_exact(&mut [0; 5]).unwrap();
        proxy.set(Network::Dropping);
        assert!(says(&mut connection, long).is_err());
        assert!(says(&mut connect(), long).is_err());
        proxy.set(Network::Whole);
        says(&mut connect(), long).unwrap();
    }
}
