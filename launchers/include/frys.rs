//! What a plugin in Rust may ask the program that runs it for, natively and as WebAssembly. Needs no crate:
//! copy this file beside `lib.rs` and write `mod frys;` there.
//!
//! A question may be asked while the plugin loads or serves a call, from one thread at a time, and waits for
//! its answer. What may be asked for is granted by a policy (docs/host-services.md): nothing, unless the policy
//! says so.

#![allow(dead_code)]

use std::fmt;

/// Why a question was refused, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No policy grants it.
    Permission,
    /// The question makes no sense, or the answer is not of this type.
    Invalid,
    /// There is no such plugin, function, event or service.
    Missing,
    /// Too long, too much, too deep.
    Limit,
    /// Not now, or not in this installation.
    Unavailable,
    /// It was tried and failed.
    Failed,
    /// It took too long.
    Timeout,
    /// It would have to wait for itself.
    Cycle,
}

/// The host did not do what it was asked for.
#[derive(Clone, Debug)]
pub struct Refused {
    pub reason: Reason,
    /// What was refused, why, and what to do.
    pub message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

/// Writes a line into the host's log; the level is trace, debug, info, warning or error.
pub fn log(level: &str, message: &str) -> Result<(), Refused> {
    ask::log(level, message)
}

/// A setting that is a text.
pub fn config(key: &str) -> Result<Option<String>, Refused> {
    let value = ask::config(key)?;
    Ok(value.map(|data| String::from_utf8_lossy(&data).into_owned()))
}

/// The value of a key in the plugin's own store.
pub fn kv_get(key: &str) -> Result<Option<Vec<u8>>, Refused> {
    ask::kv_get(key)
}

/// Stores a value.
pub fn kv_set(key: &str, data: &[u8]) -> Result<(), Refused> {
    ask::kv_set(key, data)
}

/// Removes a key.
pub fn kv_delete(key: &str) -> Result<(), Refused> {
    ask::kv_delete(key)
}

/// The keys that begin with a prefix, in order.
pub fn kv_keys(prefix: &str) -> Result<Vec<String>, Refused> {
    let keys = ask::kv_keys(prefix)?.unwrap_or_default();
    let ends = keys.split(|byte| *byte == 0).filter(|key| !key.is_empty());
    Ok(ends.map(|key| String::from_utf8_lossy(key).into_owned()).collect())
}

/// Tells everybody who listens that something happened.
pub fn emit(event: &str, data: &[u8]) -> Result<(), Refused> {
    ask::emit(event, data)
}

/// Calls a function of another plugin that takes bytes and returns bytes or a text.
pub fn call(plugin: &str, function: &str, data: &[u8]) -> Result<Option<Vec<u8>>, Refused> {
    ask::call(plugin, function, data)
}

/// Calls a function of the host program that takes bytes and returns bytes or a text.
pub fn host(name: &str, data: &[u8]) -> Result<Option<Vec<u8>>, Refused> {
    ask::host(name, data)
}

/// Sends a request without headers of its own; gives the status and the body of what comes back.
pub fn http(method: &str, url: &str, body: Option<&[u8]>) -> Result<(i32, Vec<u8>), Refused> {
    let (status, content) = ask::http(method, url, body)?;
    Ok((status, content.unwrap_or_default()))
}

/// Any service with any values: the array of its arguments and its answer are MessagePack.
pub fn ask(service: &str, arguments: &[u8]) -> Result<Vec<u8>, Refused> {
    Ok(ask::ask(service, arguments)?.unwrap_or_default())
}

/// Ends the call; its caller gets an error with this text, and the plugin starts afresh.
#[cfg(target_arch = "wasm32")]
pub fn fail(message: &str) -> ! {
    ask::fail(message)
}

fn refused(code: i32, message: String) -> Refused {
    let reason = match code {
        1 => Reason::Permission,
        2 => Reason::Invalid,
        3 => Reason::Missing,
        4 => Reason::Limit,
        5 => Reason::Unavailable,
        7 => Reason::Timeout,
        8 => Reason::Cycle,
        _ => Reason::Failed,
    };
    Refused { reason, message }
}

/// The functions that a module imports from the namespace `frys`.
#[cfg(target_arch = "wasm32")]
mod ask {
    use super::{refused, Refused};
    use std::ptr;

    type Answer = Result<Option<Vec<u8>>, Refused>;

    mod import {
        #[link(wasm_import_module = "frys")]
        extern "C" {
            pub fn log(level: *const u8, size: usize, message: *const u8, length: usize) -> i32;
            pub fn config(key: *const u8, size: usize) -> i32;
            pub fn kv_get(key: *const u8, size: usize) -> i32;
            pub fn kv_set(key: *const u8, size: usize, data: *const u8, length: usize) -> i32;
            pub fn kv_delete(key: *const u8, size: usize) -> i32;
            pub fn kv_keys(prefix: *const u8, size: usize) -> i32;
            pub fn emit(event: *const u8, size: usize, data: *const u8, length: usize) -> i32;
            pub fn call(
                plugin: *const u8, size: usize, function: *const u8, length: usize, data: *const u8, count: usize,
            ) -> i32;
            pub fn host(name: *const u8, size: usize, data: *const u8, length: usize) -> i32;
            pub fn http(
                method: *const u8, size: usize, url: *const u8, length: usize, body: *const u8, count: usize,
                status: *mut i32,
            ) -> i32;
            pub fn ask(service: *const u8, size: usize, arguments: *const u8, length: usize) -> i32;
            pub fn answer(target: *mut u8, room: usize) -> i32;
            pub fn refusal(target: *mut u8, room: usize) -> i32;
            pub fn fail(message: *const u8, size: usize) -> !;
        }
    }

    /// What is waiting at the host: it says how much there is, and then fills the room for it.
    fn fetch(get: unsafe extern "C" fn(*mut u8, usize) -> i32) -> Option<Vec<u8>> {
        // SAFETY: with no room nothing is written; then as much as there is room for.
        unsafe {
            let size = get(ptr::null_mut(), 0);
            if size < 0 {
                return None;
            }
            let mut data = vec![0; size as usize];
            get(data.as_mut_ptr(), data.len());
            Some(data)
        }
    }

    fn done(code: i32) -> Result<(), Refused> {
        if code == 0 {
            return Ok(());
        }
        let words = fetch(import::refusal).unwrap_or_default();
        Err(refused(code, String::from_utf8_lossy(&words).into_owned()))
    }

    fn answered(code: i32) -> Answer {
        done(code).map(|()| fetch(import::answer))
    }

    // SAFETY of all that follow: the host reads what these addresses and sizes of slices say, and keeps nothing.

    pub fn log(level: &str, text: &str) -> Result<(), Refused> {
        done(unsafe { import::log(level.as_ptr(), level.len(), text.as_ptr(), text.len()) })
    }
    pub fn config(key: &str) -> Answer {
        answered(unsafe { import::config(key.as_ptr(), key.len()) })
    }
    pub fn kv_get(key: &str) -> Answer {
        answered(unsafe { import::kv_get(key.as_ptr(), key.len()) })
    }
    pub fn kv_set(key: &str, data: &[u8]) -> Result<(), Refused> {
        done(unsafe { import::kv_set(key.as_ptr(), key.len(), data.as_ptr(), data.len()) })
    }
    pub fn kv_delete(key: &str) -> Result<(), Refused> {
        done(unsafe { import::kv_delete(key.as_ptr(), key.len()) })
    }
    pub fn kv_keys(prefix: &str) -> Answer {
        answered(unsafe { import::kv_keys(prefix.as_ptr(), prefix.len()) })
    }
    pub fn emit(event: &str, data: &[u8]) -> Result<(), Refused> {
        done(unsafe { import::emit(event.as_ptr(), event.len(), data.as_ptr(), data.len()) })
    }
    pub fn call(plugin: &str, function: &str, data: &[u8]) -> Answer {
        let (name, length) = (function.as_ptr(), function.len());
        answered(unsafe { import::call(plugin.as_ptr(), plugin.len(), name, length, data.as_ptr(), data.len()) })
    }
    pub fn host(name: &str, data: &[u8]) -> Answer {
        answered(unsafe { import::host(name.as_ptr(), name.len(), data.as_ptr(), data.len()) })
    }
    pub fn http(method: &str, url: &str, body: Option<&[u8]>) -> Result<(i32, Option<Vec<u8>>), Refused> {
        let (mut status, length) = (0, body.map_or(0, <[u8]>::len));
        let body = body.map_or(ptr::null(), <[u8]>::as_ptr);
        let (name, size) = (method.as_ptr(), method.len());
        let code = unsafe { import::http(name, size, url.as_ptr(), url.len(), body, length, &mut status) };
        answered(code).map(|content| (status, content))
    }
    pub fn ask(service: &str, arguments: &[u8]) -> Answer {
        let (data, length) = (arguments.as_ptr(), arguments.len());
        answered(unsafe { import::ask(service.as_ptr(), service.len(), data, length) })
    }
    pub fn fail(message: &str) -> ! {
        unsafe { import::fail(message.as_ptr(), message.len()) }
    }
}

/// The table of functions that a native plugin is handed while it loads; frys.h has it for C.
#[cfg(not(target_arch = "wasm32"))]
mod ask {
    use super::{refused, Refused};
    use std::ffi::{CStr, CString};
    use std::os::raw::{c_char, c_void};
    use std::sync::atomic::{AtomicPtr, Ordering};
    use std::{ptr, slice};

    type Answer = Result<Option<Vec<u8>>, Refused>;
    type Text = *const c_char;

    #[repr(C)]
    struct Bytes {
        data: *const u8,
        size: usize,
    }

    /// Later versions only add to the end.
    #[repr(C)]
    pub struct Table {
        version: u32,
        refusal: extern "C" fn() -> Text,
        log: extern "C" fn(Text, Text) -> i32,
        config: extern "C" fn(Text, *mut Bytes) -> i32,
        kv_get: extern "C" fn(Text, *mut Bytes) -> i32,
        kv_set: extern "C" fn(Text, *const c_void, usize) -> i32,
        kv_delete: extern "C" fn(Text) -> i32,
        emit: extern "C" fn(Text, *const c_void, usize) -> i32,
        call: extern "C" fn(Text, Text, *const c_void, usize, *mut Bytes) -> i32,
        http: extern "C" fn(Text, Text, *const c_void, usize, *mut i32, *mut Bytes) -> i32,
        ask: extern "C" fn(Text, *const c_void, usize, *mut Bytes) -> i32,
        kv_keys: extern "C" fn(Text, *mut Bytes) -> i32,
        host: extern "C" fn(Text, *const c_void, usize, *mut Bytes) -> i32,
    }

    static TABLE: AtomicPtr<Table> = AtomicPtr::new(ptr::null_mut());

    #[no_mangle]
    pub extern "C" fn frys_init(table: *mut Table) {
        TABLE.store(table, Ordering::Release);
    }

    fn table() -> Result<&'static Table, Refused> {
        let table = TABLE.load(Ordering::Acquire);
        // SAFETY: the host hands over a table that lives as long as the process, or this is a test without a host.
        unsafe { table.as_ref() }.ok_or_else(|| refused(5, "no host has loaded this library".to_owned()))
    }

    fn text(words: &str) -> Result<CString, Refused> {
        CString::new(words).map_err(|_| refused(2, format!("{words:?} has a NUL in it")))
    }

    fn done(code: i32) -> Result<(), Refused> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: a text with an end, valid until the next question.
        let words = unsafe { CStr::from_ptr((table()?.refusal)()) };
        Err(refused(code, words.to_string_lossy().into_owned()))
    }

    fn answered(question: impl FnOnce(*mut Bytes) -> i32) -> Answer {
        let mut found = Bytes { data: ptr::null(), size: 0 };
        done(question(&mut found))?;
        // SAFETY: the host says that there are so many bytes, valid until the next question.
        let copy = |found: Bytes| unsafe { slice::from_raw_parts(found.data, found.size) }.to_vec();
        Ok(if found.data.is_null() { None } else { Some(copy(found)) })
    }

    fn start(data: &[u8]) -> *const c_void {
        data.as_ptr().cast()
    }

    pub fn log(level: &str, message: &str) -> Result<(), Refused> {
        done((table()?.log)(text(level)?.as_ptr(), text(message)?.as_ptr()))
    }
    pub fn config(key: &str) -> Answer {
        let (table, key) = (table()?, text(key)?);
        answered(|found| (table.config)(key.as_ptr(), found))
    }
    pub fn kv_get(key: &str) -> Answer {
        let (table, key) = (table()?, text(key)?);
        answered(|found| (table.kv_get)(key.as_ptr(), found))
    }
    pub fn kv_set(key: &str, data: &[u8]) -> Result<(), Refused> {
        done((table()?.kv_set)(text(key)?.as_ptr(), start(data), data.len()))
    }
    pub fn kv_delete(key: &str) -> Result<(), Refused> {
        done((table()?.kv_delete)(text(key)?.as_ptr()))
    }
    pub fn kv_keys(prefix: &str) -> Answer {
        let (table, prefix) = (table()?, text(prefix)?);
        answered(|found| (table.kv_keys)(prefix.as_ptr(), found))
    }
    pub fn emit(event: &str, data: &[u8]) -> Result<(), Refused> {
        done((table()?.emit)(text(event)?.as_ptr(), start(data), data.len()))
    }
    pub fn call(plugin: &str, function: &str, data: &[u8]) -> Answer {
        let (table, plugin, function) = (table()?, text(plugin)?, text(function)?);
        answered(|found| (table.call)(plugin.as_ptr(), function.as_ptr(), start(data), data.len(), found))
    }
    pub fn host(name: &str, data: &[u8]) -> Answer {
        let (table, name) = (table()?, text(name)?);
        answered(|found| (table.host)(name.as_ptr(), start(data), data.len(), found))
    }
    pub fn http(method: &str, url: &str, body: Option<&[u8]>) -> Result<(i32, Option<Vec<u8>>), Refused> {
        let (table, method, url) = (table()?, text(method)?, text(url)?);
        let (mut status, length) = (0, body.map_or(0, <[u8]>::len));
        let data = body.map_or(ptr::null(), start);
        let content =
            answered(|found| (table.http)(method.as_ptr(), url.as_ptr(), data, length, &mut status, found))?;
        Ok((status, content))
    }
    pub fn ask(service: &str, arguments: &[u8]) -> Answer {
        let (table, service) = (table()?, text(service)?);
        answered(|found| (table.ask)(service.as_ptr(), start(arguments), arguments.len(), found))
    }
}
