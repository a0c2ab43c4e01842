//! The client's side of SCRAM, towards a server, with a ClientKey in the place of a password.

use subtle::ConstantTimeEq;

use super::{
    BASE64, BINDING, Key, MECHANISM, MECHANISM_PLUS, ScramError, attribute, hash, is_nonce, mac,
    text, xor,
};
use base64::Engine as _;

/// What the server's leg has to bind to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leg {
    /// Nothing: no TLS, or binding is switched off.
    Unbound,
    /// TLS, and the server does not offer binding: it is told that we would have bound.
    NotOffered,
    /// The hash of the server's certificate.
    Bound(Vec<u8>),
}

/// An exchange of which the first message is made.
#[derive(Debug)]
pub struct Asking {
    header: &'static str,
    binding: Vec<u8>,
    bare: String,
    nonce: String,
}

/// The server's answer.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// Of the role, or of nobody.
    pub salt: Vec<u8>,
    /// How often its password was hashed.
    pub iterations: u32,
    nonce: String,
    text: String,
}

/// What is left to compare when the server has answered the proof.
pub struct Awaited {
    signature: Key,
}

impl Asking {
    /// Begins. `nonce` is ours.
    pub fn new(nonce: String, leg: Leg) -> Self {
        const {
            assert!(BINDING.len() == 20);
        }
        let (header, binding) = match leg {
            Leg::Unbound => ("n,,", Vec::new()),
            Leg::NotOffered => ("y,,", Vec::new()),
            Leg::Bound(hash) => ("p=tls-server-end-point,,", hash),
        };
        // The startup message names the role; PostgreSQL ignores the name here.
        let bare = format!("n=,r={nonce}");
        Self {
            header,
            binding,
            bare,
            nonce,
        }
    }

    /// The mechanism to choose.
    pub fn mechanism(&self) -> &'static [u8] {
        if self.header.starts_with('p') {
            MECHANISM_PLUS
        } else {
            MECHANISM
        }
    }

    /// `client-first-message`.
    pub fn first(&self) -> String {
        format!("{}{}", self.header, self.bare)
    }

    /// Reads `server-first-message`.
    pub fn hear(&self, message: &[u8]) -> Result<Challenge, ScramError> {
        let message = text(message)?;
        let mut rest = message;
        let nonce = attribute(&mut rest, 'r')?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() || !is_nonce(nonce) {
            return Err(ScramError::Nonce);
        }
        let malformed = ScramError::Malformed {
            detail: "The server's challenge is none.",
        };
        let salt = BASE64
            .decode(attribute(&mut rest, 's')?)
            .map_err(|_| malformed.clone())?;
        let iterations = attribute(&mut rest, 'i')?
            .parse()
            .ok()
            .filter(|count| *count > 0)
            .ok_or(malformed.clone())?;
        if !rest.is_empty() {
            return Err(malformed);
        }
        Ok(Challenge {
            salt,
            iterations,
            nonce: nonce.to_owned(),
            text: message.to_owned(),
        })
    }

    /// `client-final-message`, and what the server's last must be.
    pub fn answer(
        &self,
        challenge: &Challenge,
        client_key: &Key,
        server_key: &Key,
    ) -> (String, Awaited) {
        let unproved = self.unproved(challenge);
        let parts = [
            self.bare.as_bytes(),
            b",",
            challenge.text.as_bytes(),
            b",",
            unproved.as_bytes(),
        ];
        let signature = mac(hash(client_key).as_slice(), &parts);
        let proof = xor(client_key, &signature);
        let last = format!("{unproved},p={}", BASE64.encode(proof.as_slice()));
        let signature = mac(server_key.as_slice(), &parts);
        (last, Awaited { signature })
    }

    /// A last message with a proof that proves nothing: the server refuses the login in its own words.
    pub fn give_up(&self, challenge: &Challenge, noise: [u8; 32]) -> String {
        format!("{},p={}", self.unproved(challenge), BASE64.encode(noise))
    }

    fn unproved(&self, challenge: &Challenge) -> String {
        let bound = [self.header.as_bytes(), &self.binding].concat();
        format!("c={},r={}", BASE64.encode(bound), challenge.nonce)
    }
}

impl Awaited {
    /// Whether `server-final-message` proves the server.
    pub fn is(&self, message: &[u8]) -> bool {
        let Ok(message) = text(message) else {
            return false;
        };
        let mut rest = message;
        let given = attribute(&mut rest, 'v')
            .ok()
            .and_then(|text| BASE64.decode(text).ok());
        given.is_some_and(|given| {
            rest.is_empty() && bool::from(given.as_slice().ct_eq(self.signature.as_slice()))
        })
    }
}
