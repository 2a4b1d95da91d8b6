// JGit: ACTION URL FOLDER ... as tests/support/clients.rs calls it.

import java.io.File;
import java.net.URI;
import java.net.URLDecoder;
import java.util.ArrayList;
import java.util.List;
import org.eclipse.jgit.api.Git;
import org.eclipse.jgit.transport.PushResult;
import org.eclipse.jgit.transport.RefSpec;
import org.eclipse.jgit.transport.RemoteRefUpdate;
import org.eclipse.jgit.transport.UsernamePasswordCredentialsProvider;

public final class JgitClient {
    public static void main(String[] args) throws Exception {
        String action = args[0];
        URI full = new URI(args[1]);
        File folder = new File(args[2]);
        String url = full.getScheme() + "://" + full.getHost() + ":" + full.getPort() + full.getPath();
        String userInfo = full.getRawUserInfo() == null ? ":" : full.getRawUserInfo();
        int colon = userInfo.indexOf(':');
        UsernamePasswordCredentialsProvider who = new UsernamePasswordCredentialsProvider(
                URLDecoder.decode(userInfo.substring(0, colon), "UTF-8"),
                URLDecoder.decode(userInfo.substring(colon + 1), "UTF-8"));
        if (action.equals("clone")) {
            Git.cloneRepository().setURI(url).setDirectory(folder).setCredentialsProvider(who).call().close();
            return;
        }
        try (Git git = Git.open(folder)) {
            if (action.equals("fetch")) {
                git.fetch().setRemote(url).setCredentialsProvider(who)
                        .setRefSpecs(new RefSpec("+refs/heads/*:refs/remotes/origin/*")).call();
                return;
            }
            List<RefSpec> specs = new ArrayList<>();
            if (action.equals("mirror")) {
                specs.add(new RefSpec("+refs/heads/*:refs/heads/*"));
                specs.add(new RefSpec("+refs/tags/*:refs/tags/*"));
            } else if (action.equals("delete")) {
                specs.add(new RefSpec("+:" + args[3]));
            } else {
                specs.add(new RefSpec(args[3] + ":" + args[4]).setForceUpdate(args[5].length() > 0));
            }
            List<String> refused = new ArrayList<>();
            for (PushResult result : git.push().setRemote(url).setCredentialsProvider(who)
                    .setRefSpecs(specs).call()) {
                System.err.print(result.getMessages());
                for (RemoteRefUpdate update : result.getRemoteUpdates()) {
                    RemoteRefUpdate.Status status = update.getStatus();
                    if (status != RemoteRefUpdate.Status.OK && status != RemoteRefUpdate.Status.UP_TO_DATE) {
                        refused.add(update.getRemoteName() + ": " + status + " " + update.getMessage());
                    }
                }
            }
            if (!refused.isEmpty()) {
                System.err.println(String.join("\n", refused));
                System.exit(1);
            }
        }
    }
}
