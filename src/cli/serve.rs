//! `auxin serve`: the server, from its settings to its end.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::args::{Common, Serve};
use super::output::Output;
use super::{config, first_start, screen};
use crate::app::App;
use crate::config::{FlagValue, Settings, template};
use crate::data_folder::{DEFAULT_DATA_FOLDER, DataFolder, ServingLock};
use crate::http;

/// Exit code after a second signal, as shells count: 128 and the number of SIGINT.
const EXIT_CUT_SHORT: i32 = 130;
/// How long threads may still run that nobody waits for any more, such as that of a hook which
/// does not end. Then the process ends, which is as safe for the data as pulling the plug.
const LAST_WAIT: Duration = Duration::from_secs(5);

pub(super) fn run(serve: &Serve, common: &Common, out: &Output) -> anyhow::Result<ExitCode> {
    let flags: Vec<_> = serve
        .listen
        .iter()
        .map(|address| FlagValue {
            flag: "--listen",
            key: "server.listen",
            value: address.clone(),
        })
        .collect();
    let settings = config::settings(common, &flags)?;
    crate::telemetry::init(&settings.log);
    let runtime = super::runtime()?;
    let mut lock = None;
    let outcome = runtime.block_on(start(settings, common, out, &mut lock));
    runtime.shutdown_timeout(LAST_WAIT);
    if let Some(lock) = lock {
        // What a thread still writes, the next server must not find in the middle.
        lock.keep_until_exit()?;
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

/// `lock` is where the right to serve the folder is left; it has to outlive all threads.
async fn start(
    mut settings: Settings,
    common: &Common,
    out: &Output,
    lock: &mut Option<ServingLock>,
) -> anyhow::Result<()> {
    // What may be wrong in the environment is found before anything is made or promised.
    let wished = first_start::Wished::from_environment();
    // A server that was started before does not mind that the file with the password is gone by now.
    let was_started = DataFolder::open(&common.data).is_ok_and(|data| data.database().exists());
    let wished = if was_started { wished } else { Ok(wished?) };
    http::check_certificate(&settings.server)?;
    let data = DataFolder::create(&common.data)?;
    let serving = lock.insert(data.lock_for_serving()?);
    let listen = settings.server.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| {
        format!("Nothing can listen on {listen}. Choose another address with --listen, or stop the program that has it")
    })?;
    let bound = listener.local_addr()?;
    if common.config.is_none() {
        data.write_settings_once(&template())?;
    }
    let address = settings.server.base_url(bound);
    settings.server.public_url.clone_from(&address);
    serving.announce(&address)?;
    let app = App::open(settings, data.clone()).await?;
    app.recover().await?;
    let administrator = first_start::administrator(&app, &data, wished).await?;
    let named_data = match common.data.as_os_str() == DEFAULT_DATA_FOLDER {
        true => String::new(),
        false => format!(" --data {}", data.path().display()),
    };
    // Whoever has read the screen may end the server at once, and in good order.
    let shutdown = CancellationToken::new();
    stop_on_signals(shutdown.clone())?;
    let shown = out.say_once(
        screen::ready(&address, &data, &named_data, administrator.as_ref()).trim_end_matches('\n'),
        &screen::Ready::new(&address, &data, administrator.as_ref()),
    );
    match shown {
        Ok(()) => first_start::shown(&data)?,
        // A server whose output nobody reads serves all the same.
        Err(error) => tracing::warn!(%error, "The first screen could not be shown; the next start shows it"),
    }
    // Where it really listens: behind a proxy the address above is another one.
    tracing::info!(listen = %bound, "Listening on {bound}");

    let upkeep = {
        let (upkeep, shutdown) = (app.upkeep.clone(), shutdown.clone());
        tokio::spawn(async move { upkeep.run(shutdown).await })
    };
    let large_files = {
        let (large_files, shutdown) = (app.large_files.clone(), shutdown.clone());
        tokio::spawn(async move { large_files.run(shutdown).await })
    };
    let keeping = {
        let (keeping, shutdown) = (app.keeping.clone(), shutdown.clone());
        tokio::spawn(async move { keeping.run(shutdown).await })
    };
    let notes = {
        let (notes, shutdown) = (app.notes.clone(), shutdown.clone());
        let enabled = app.config.notes.enabled;
        tokio::spawn(async move {
            if enabled {
                notes.run(shutdown).await;
            }
        })
    };
    http::serve(app.clone(), listener, shutdown.clone()).await?;
    shutdown.cancel();
    if let Err(error) = upkeep.await {
        tracing::error!(%error, "Maintenance ended by itself");
    }
    if let Err(error) = large_files.await {
        tracing::error!(%error, "Care for large files ended by itself");
    }
    if let Err(error) = keeping.await {
        tracing::error!(%error, "Collecting large files ended by itself");
    }
    if let Err(error) = notes.await {
        tracing::error!(%error, "Writing notes ended by itself");
    }
    app.close().await;
    tracing::info!("The server has ended");
    Ok(())
}

/// Cancels `shutdown` at the first SIGTERM or SIGINT; ends the process at the second.
fn stop_on_signals(shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("Signals cannot be received")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("Signals cannot be received")?;
    tokio::spawn(async move {
        for count in 1_u8.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if count > 1 {
                tracing::warn!("A second signal: the server ends without waiting for transfers");
                // Nothing is lost: what was acknowledged is durable, the rest starts over.
                std::process::exit(EXIT_CUT_SHORT);
            }
            tracing::info!("Ending: no new work is taken, running transfers may finish");
            shutdown.cancel();
        }
    });
    Ok(())
}
