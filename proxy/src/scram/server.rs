//! The server's side of SCRAM, towards a client: its messages judged in the order and in the words of PostgreSQL
//! (auth-scram.c). Whose verifier it is, it does not know.

use subtle::ConstantTimeEq;

use super::{
    BASE64, BINDING, Key, MECHANISM, MECHANISM_PLUS, ScramError, Verifier, any_attribute,
    attribute, hash, is_nonce, mac, text, xor,
};
use base64::Engine as _;

/// Bytes of the client's nonce and of attributes that PostgreSQL ignores are bounded by the message: 64 KiB.
#[derive(Debug)]
pub struct ClientFirst {
    /// `n,,`, `y,,` or `p=tls-server-end-point,,`: what the last message must repeat.
    header: String,
    bare: String,
    nonce: String,
    binds: bool,
}

/// An exchange that awaits its proof.
#[derive(Debug)]
pub struct ServerSide {
    first: ClientFirst,
    nonce: String,
    /// `server-first-message`: what the client gets.
    pub challenge: String,
}

/// A client that has proved itself.
pub struct Proven {
    /// What it proved that it has.
    pub client_key: Key,
    /// `server-final-message`: what proves the server.
    pub last: String,
}

impl std::fmt::Debug for Proven {
    /// It is as good as a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proven").finish_non_exhaustive()
    }
}

impl ClientFirst {
    /// Reads a client's choice of mechanism and its first message. `offered`: whether binding was.
    pub fn read(mechanism: &[u8], message: &[u8], offered: bool) -> Result<Self, ScramError> {
        let plus = mechanism == MECHANISM_PLUS;
        if !(mechanism == MECHANISM || plus && offered) {
            return Err(ScramError::Unsupported(
                "client selected an invalid SASL authentication mechanism",
            ));
        }
        let message = text(message)?;
        let (flag, rest) = message.split_once(',').ok_or(ScramError::Malformed {
            detail: "Comma expected.",
        })?;
        let binds = match flag {
            "n" | "y" if plus => {
                return Err(ScramError::Malformed {
                    detail: "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.",
                });
            }
            "n" => false,
            "y" if offered => return Err(ScramError::Downgrade),
            "y" => false,
            _ if flag.starts_with("p=") => {
                if !plus {
                    return Err(ScramError::Malformed {
                        detail: "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.",
                    });
                }
                if &flag[2..] != BINDING {
                    return Err(ScramError::Unsupported(
                        "unsupported SCRAM channel-binding type",
                    ));
                }
                true
            }
            _ => {
                return Err(ScramError::Malformed {
                    detail: "Unexpected channel-binding flag.",
                });
            }
        };
        Self::read_bare(flag, rest, binds)
    }

    fn read_bare(flag: &str, rest: &str, binds: bool) -> Result<Self, ScramError> {
        let bare = match rest.split_once(',') {
            Some(("", bare)) => bare,
            Some((identity, _)) if identity.starts_with('a') => {
                return Err(ScramError::Unsupported(
                    "client uses authorization identity, but it is not supported",
                ));
            }
            _ => {
                return Err(ScramError::Malformed {
                    detail: "Unexpected attribute in client-first-message.",
                });
            }
        };
        if bare.starts_with('m') {
            return Err(ScramError::Unsupported(
                "client requires an unsupported SCRAM extension",
            ));
        }
        let mut attributes = bare;
        // The name is not used: the startup message has it.
        attribute(&mut attributes, 'n')?;
        let nonce = attribute(&mut attributes, 'r')?;
        if !is_nonce(nonce) {
            return Err(ScramError::Malformed {
                detail: "Non-printable characters in SCRAM nonce.",
            });
        }
        while !attributes.is_empty() {
            any_attribute(&mut attributes)?;
        }
        Ok(Self {
            header: format!("{flag},,"),
            bare: bare.to_owned(),
            nonce: nonce.to_owned(),
            binds,
        })
    }

    /// Whether the client binds to its TLS connection.
    pub fn binds(&self) -> bool {
        self.binds
    }

    /// The challenge. `nonce` is ours.
    pub fn challenge(self, nonce: &str, salt: &[u8], iterations: u32) -> ServerSide {
        let nonce = format!("{}{nonce}", self.nonce);
        ServerSide {
            challenge: format!("r={nonce},s={},i={iterations}", BASE64.encode(salt)),
            nonce,
            first: self,
        }
    }
}

impl ServerSide {
    /// Judges the client's last message. `binding`: the hash of the certificate that it saw.
    pub fn prove(
        &self,
        message: &[u8],
        verifier: &Verifier,
        binding: Option<&[u8]>,
    ) -> Result<Proven, ScramError> {
        let message = text(message)?;
        let mut rest = message;
        let bound = attribute(&mut rest, 'c')?;
        self.check_binding(bound, binding)?;
        if attribute(&mut rest, 'r')? != self.nonce {
            return Err(ScramError::Nonce);
        }
        // Everything before the proof is signed, extensions too.
        let (proof, unproved) = loop {
            let at = message.len() - rest.len();
            if let ('p', proof) = any_attribute(&mut rest)? {
                break (proof, &message[..at - 1]);
            }
        };
        let proof: [u8; 32] = BASE64
            .decode(proof)
            .ok()
            .and_then(|proof| proof.try_into().ok())
            .ok_or(ScramError::Malformed {
                detail: "Malformed proof in client-final-message.",
            })?;
        if !rest.is_empty() || message.ends_with(',') {
            return Err(ScramError::Malformed {
                detail: "Garbage found at the end of client-final-message.",
            });
        }
        self.judge(&proof, unproved, verifier)
    }

    fn judge(
        &self,
        proof: &[u8; 32],
        unproved: &str,
        verifier: &Verifier,
    ) -> Result<Proven, ScramError> {
        let parts = [
            self.first.bare.as_bytes(),
            b",",
            self.challenge.as_bytes(),
            b",",
            unproved.as_bytes(),
        ];
        let signature = mac(verifier.stored_key.as_slice(), &parts);
        let client_key = xor(&signature, proof);
        let right: bool = hash(&client_key)
            .as_slice()
            .ct_eq(verifier.stored_key.as_slice())
            .into();
        if !right {
            return Err(ScramError::Wrong);
        }
        let signature = mac(verifier.server_key.as_slice(), &parts);
        Ok(Proven {
            client_key,
            last: format!("v={}", BASE64.encode(signature.as_slice())),
        })
    }

    /// The header again, and behind it what the client bound to.
    fn check_binding(&self, bound: &str, binding: Option<&[u8]>) -> Result<(), ScramError> {
        let mut expected = self.first.header.clone().into_bytes();
        if self.first.binds {
            expected.extend_from_slice(binding.unwrap_or_default());
        }
        if bound == BASE64.encode(expected) {
            Ok(())
        } else if self.first.binds {
            Err(ScramError::Binding)
        } else {
            Err(ScramError::Malformed {
                detail: "Unexpected SCRAM channel-binding attribute in client-final-message.",
            })
        }
    }
}
